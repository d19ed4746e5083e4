"""Chains of layers before and after a network, as an experiment names them.

A chain is planned before it is made: a trial on tensors without memory (torch's device "meta")
determines the channels that each layer receives, and finds what does not fit. The plan is plain
data that a checkpoint can hold; `make_chain` of the registry makes the layers from it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from msdtool.architecture import MAX_WEIGHTS
from msdtool.nn.layers import NormType
from msdtool.nn.yaml_layers.registry import LAYERS, NESTED, SHORTCUTS, Kind, make_layer, split
from msdtool.nn.yaml_layers.signatures import did_you_mean, hints, parameters, signature
from msdtool.plain_data import fits, type_text

Shape = tuple[int, ...]
Path = tuple[str | int, ...]

POSITIVE = (
    *("base_width", "codes", "dilation", "g2", "groups", "kernel_size", "ks", "nf", "nh1", "nh2"),
    *("ni", "reduction", "scale", "scale_factor", "stride", "sz", "in_channels", "out_channels"),
)
"""Arguments that must be positive numbers, or lists of them."""


class LayerError(ValueError):
    """A layer that cannot be made or does not fit.

    Attributes:
        path: keys and indices from the chain to the layer.
        message: what is wrong.
    """

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path
        self.message = message


def plan_chain(
    chain: Sequence[Any], shape: Shape, wanted: int | None = None, original: Shape | None = None
) -> tuple[list[Any], Shape]:
    """Complete the arguments of a chain's layers and try it.

    Args:
        chain: layers, each a name or {name: arguments}.
        shape: of the input, [B, C, *space].
        wanted: output channels of the last layer, if these can be chosen; None for as many as its
            input has.
        original: shape of the input of the block that the chain is in; see `SequentialEx`.

    Returns:
        The chain with all arguments, and the shape of its output.

    Raises:
        LayerError: a layer cannot be made, or cannot process its input.
    """
    planned: list[Any] = []
    for index, layer in enumerate(chain):
        is_last = index == len(chain) - 1
        channels = wanted if wanted is not None and is_last else shape[1]
        try:
            complete, shape = _plan_layer(layer, shape, channels, original)
        except LayerError as error:
            raise LayerError((index, *error.path), error.message) from None
        planned.append(complete)
    return planned, shape


def plan_layer(
    table: Mapping[str, Kind],
    layer: Any,
    channels: int,
    wanted: int,
    ndim: int,
    others: Sequence[str] = (),
) -> Any:
    """Complete the arguments of a single layer, without trying it.

    Args:
        table: the allowed layers.
        layer: a name or {name: arguments}.
        channels: of its input.
        wanted: channels of its output, if these can be chosen.
        ndim: number of spatial axes.
        others: names that are allowed besides layers, for the error message.

    Raises:
        LayerError: there is no such layer, or it does not take these arguments.
    """
    name, given = _known(table, layer, others)
    path = (name,)
    kind = table[name]
    allowed, types = parameters(kind), hints(kind)
    try:
        inferred = kind.inferred(channels, wanted, given)
    except ValueError as error:
        raise LayerError(path, f"{error}. {signature(name, kind)}") from None
    if "ndim" in allowed:
        inferred["ndim"] = ndim
    for key, value in given.items():
        if key not in allowed:
            close = did_you_mean(key, allowed)
            raise LayerError((*path, key), f"unknown argument{close} {signature(name, kind)}")
        expected = _expected(kind, key, value, types[key])
        if expected:
            raise LayerError(
                (*path, key), f"got {_text(value)}; expected {expected}. {signature(name, kind)}"
            )
    complete = {**inferred, **given}
    for key, parameter in allowed.items():
        if parameter.default is parameter.empty and key not in complete:
            raise LayerError(path, f"{key} is missing. {signature(name, kind)}")
    for key in complete.keys() & (NESTED.keys() | {"norm_type"}):
        try:
            complete[key] = _plan_nested(key, complete[key], complete, channels, wanted, ndim)
        except LayerError as error:
            raise LayerError((*path, key, *error.path), error.message) from None
    return {name: complete} if complete else name


def _expected(kind: Kind, key: str, value: Any, hint: Any) -> str:
    """Return what is expected of an argument, or "" if it fits; nested layers are checked later."""
    if key in NESTED:
        is_missing = value is None and not fits(None, hint)
        return f"one of {', '.join(sorted(NESTED[key]))}" if is_missing else ""
    if key in ("norm_type", "layers"):
        return ""
    if not fits(value, hint):
        return type_text(hint) or "another kind of value"
    # torch checks these late, with obscure messages, or not at all on the device "meta".
    sizes = value if isinstance(value, list) else [value]
    smallest = min((v for v in sizes if isinstance(v, int | float)), default=1)
    if key in POSITIVE and smallest <= 0:
        return "more than 0"
    pads_by_torch = key == "padding" and kind.family in ("convolution", "residual", "upsampling")
    return "0 or more" if pads_by_torch and smallest < 0 else ""


def _text(value: Any) -> str:
    return "null" if value is None else repr(value)


def is_layer(value: Any) -> bool:
    """Whether a value from a config could name a layer: a name, or {name: arguments}."""
    return isinstance(value, str) or (isinstance(value, dict) and len(value) == 1)


def _known(
    table: Mapping[str, Kind], layer: Any, others: Sequence[str]
) -> tuple[str, dict[str, Any]]:
    name, given = split(layer) if is_layer(layer) else (_text(layer), {})
    arguments: Any = given
    if name not in table:
        names = sorted([*table, *others])
        raise LayerError(
            (),
            f"{name} is not a layer allowed here{did_you_mean(name, names)} "
            f"Allowed: {', '.join(names)}",
        )
    if not isinstance(arguments, dict):
        text = signature(name, table[name])
        raise LayerError((name,), f"got {arguments!r}; expected its arguments by name: {text}")
    return name, arguments


def _plan_nested(
    key: str, value: Any, others: Mapping[str, Any], channels: int, wanted: int, ndim: int
) -> Any:
    if value is None:
        return None
    if key == "norm_type":
        names = [kind.name for kind in NormType]
        if value not in names:
            close = did_you_mean(str(value), names)
            raise LayerError((), f"got {value!r}{close} Allowed: null, {', '.join(names)}")
        return value
    if key == "kernel":
        # Kernels count the channels of one group, or of one kernel that all groups share.
        groups = others.get("groups", 1)
        channels = channels // groups if channels % groups == 0 else channels
        wanted = wanted // groups if others.get("group_broadcasting") else wanted
    return plan_layer(NESTED[key], value, channels, wanted, ndim)


def _plan_layer(layer: Any, shape: Shape, wanted: int, original: Shape | None) -> tuple[Any, Shape]:
    """Complete a layer's arguments, and determine the shape of its output."""
    planned = plan_layer(LAYERS, layer, shape[1], wanted, len(shape) - 2)
    name, arguments = split(planned)
    if "layers" in arguments:
        return _plan_container(name, arguments, shape, wanted)
    inputs = [shape]
    if name in SHORTCUTS:
        if original is None:
            raise LayerError((), f"{name} can only be used inside a SequentialEx")
        inputs.append(original)
    describe = f"on a batch of shape {list(shape)}"
    output = attempt(lambda: make_layer(LAYERS, name, arguments), inputs)
    if isinstance(output, str):
        text = signature(name, LAYERS[name])
        raise LayerError(
            (name,), f"cannot be used with these arguments {describe} ({output}). {text}"
        )
    if len(output) != len(shape) or output[0] != shape[0] or math.prod(output) == 0:
        raise LayerError(
            (name,), f"outputs {list(output)} {describe}, which is not a batch of images"
        )
    return planned, output


def _plan_container(
    name: str, arguments: dict[str, Any], shape: Shape, wanted: int
) -> tuple[Any, Shape]:
    """Plan the layers of a `SequentialEx`, or the branches of a `Cat`."""
    inner = arguments["layers"]
    if not isinstance(inner, list) or not inner:
        raise LayerError((name, "layers"), f"got {inner!r}; expected a list of layers")
    try:
        if name == "SequentialEx":
            planned, output = plan_chain(inner, shape, wanted, original=shape)
            return {name: {**arguments, "layers": planned}}, output
        branches, outputs = [], []
        for index, branch in enumerate(inner):
            chain = branch if isinstance(branch, list) else [branch]
            try:
                planned, output = plan_chain(chain, shape)
            except LayerError as error:
                tail = error.path if isinstance(branch, list) else error.path[1:]
                raise LayerError((index, *tail), error.message) from None
            branches.append(planned)
            outputs.append(output)
    except LayerError as error:
        raise LayerError((name, "layers", *error.path), error.message) from None
    complete = {**arguments, "layers": branches}
    dim = arguments.get("dim", 1)
    joined = attempt(lambda: lambda *branches: torch.cat(branches, dim), outputs)
    if isinstance(joined, str):
        text = signature(name, LAYERS[name])
        raise LayerError(
            (name,), f"its branches output {outputs}, which cannot be joined ({joined}). {text}"
        )
    return {name: complete}, joined


def attempt(make: Callable[[], Callable[..., Any]], shapes: Sequence[Shape]) -> Shape | str:
    """Make a layer without memory and apply it; return the output's shape, or what went wrong."""
    try:
        with torch.device("meta"), torch.no_grad():
            layer = make()
            if isinstance(layer, nn.Module):
                # Batch normalisation in training mode would communicate with other processes.
                layer.eval()
                weights = sum(parameter.numel() for parameter in layer.parameters())
                if weights > MAX_WEIGHTS:
                    return f"it would have {weights:.2g} weights; at most {MAX_WEIGHTS:.0g}"
            output = layer(*(torch.empty(shape) for shape in shapes))
    except Exception as error:  # torch and the layers raise errors of many types
        text = str(error).split("\n")[0].split("(Could this error message be improved?")[0]
        return text.strip().rstrip(".") or type(error).__name__
    return (
        tuple(output.shape)
        if isinstance(output, Tensor)
        else f"it returns a {type(output).__name__}"
    )
