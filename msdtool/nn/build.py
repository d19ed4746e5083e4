"""Networks from plain descriptions, as a config or a checkpoint holds them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from msdtool.config import ExperimentConfig
from msdtool.nn.chain import LayerError, Path, Shape, attempt, is_layer, plan_chain, plan_layer
from msdtool.nn.general import CONVOLUTION, GeneralMSDModule
from msdtool.nn.msd import MSDModule
from msdtool.nn.registry import (
    ACTIVATIONS,
    NORMS,
    OPERATIONS,
    TEMPORAL,
    Kind,
    make_chain,
    split,
)
from msdtool.nn.scaling import ScaledNetwork
from msdtool.nn.series import SeriesNetwork
from msdtool.nn.signatures import signature
from msdtool.ops.checks import check_dilations

Architecture = dict[str, Any]
"""Everything that a network's shape depends on, as plain data.

The arguments of an `MSDModule`; those of a `GeneralMSDModule` if it is one; and if there are layers
around it, ``stem`` and ``head`` as `plan_chain` returns them, ``c_stem``, the channels after the
stem, ``features``, those in front of the head, and ``scale``, by which the image grows. For a
`SeriesNetwork` ``stream``, its axis and dt.
"""

ARGUMENTS = ("depth", "width", "dilations", "ndim", "padding")
GENERAL = ("operation", "activation", "norm")
TRIAL_DEPTH = 2


def architecture(
    config: ExperimentConfig, c_in: int, c_out: int, space: Sequence[int]
) -> Architecture:
    """Return the architecture that a config asks for.

    Args:
        config: the experiment.
        c_in: channels of the input images.
        c_out: channels of the output.
        space: size of the images, on which layers around the network are tried.

    Raises:
        ConfigError: a layer does not exist, not with these arguments, or does not fit; names file,
            line and key.
    """
    network = config.network
    description = {"c_in": c_in, "c_out": c_out} | network.model_dump(include=set(ARGUMENTS))
    shape: Shape = (config.training.batch_size, c_in, *space)
    if config.stream is not None:
        description["stream"] = config.stream.model_dump()
        shape = frames_shape(shape, config.stream.axis)
    if network.stem or network.head:
        description |= _around(config, c_out, shape)
    if (network.operation, network.activation, network.norm) != (CONVOLUTION, "ReLU", None):
        description |= _inside(config, description.get("c_stem", c_in), shape[2:])
    return description


def frames_shape(shape: Sequence[int], axis: int) -> Shape:
    """The shape [B*T, C, *space] of the frames of series [B, C, *axes], time being ``axis``."""
    batch, channels, *space = shape
    frames = space.pop(axis)
    return (batch * frames, channels, *space)


def check_scale(config: ExperimentConfig, architecture: Architecture, found: int) -> None:
    """Check that the network gives images of the targets' size.

    Args:
        config: the experiment.
        architecture: of its network.
        found: how many times as large as the inputs the targets are.

    Raises:
        ConfigError: it does not.
    """
    given = architecture.get("scale", 1)
    if found != given:
        advice = (
            "leave out the layers that enlarge them"
            if found == 1
            else f"a layer such as {{PixelShuffle_ICNR: {{scale: {found}, act_cls: null}}}} at the "
            "end would make them so"
        )
        raise config.error(
            ("network", "head"),
            f"the network gives images {given} times as large as the inputs, and the targets are "
            f"{found} times as large; {advice}",
        )


def check_sizes(
    config: ExperimentConfig,
    architecture: Architecture,
    training: Iterable[Sequence[int]],
    validation: Iterable[Sequence[int]],
) -> None:
    """Try the layers around the network on each size of image that they will meet.

    Args:
        config: the experiment.
        architecture: of its network.
        training: sizes of what the network is trained on.
        validation: sizes of what it is measured on.

    Raises:
        ConfigError: a layer cannot work on one of them; names file, line and key.
    """
    if not {"stem", "head"} & architecture.keys():
        return
    stream = config.stream
    shapes: list[Shape] = []
    for sizes, is_training in ((training, True), (validation, False)):
        for size in sizes:
            shape: Shape = (1, architecture["c_in"], *size)
            if stream is not None:
                frames, *image = frames_shape(shape, stream.axis)
                shape = (frames if is_training else min(frames, stream.dt), *image)
            shapes.append(shape)
    for shape in dict.fromkeys(shapes):
        scale = _around(config, architecture["c_out"], shape)["scale"]
        if scale != architecture["scale"]:
            raise config.error(
                ("network", "head"),
                f"makes images of {_size(shape[2:])} pixels {scale} times as large, and others "
                f"{architecture['scale']} times; the same is needed for images of all sizes",
            )


def _around(config: ExperimentConfig, c_out: int, shape: Shape) -> Architecture:
    """Plan the stem and the head."""
    network = config.network
    space = shape[2:]
    for key in ("stem", "head"):
        if config.stream is None:
            _refuse_temporal(config, ("network", key), getattr(network, key))
    stem, shape = _plan(config, "stem", network.stem, shape, None)
    c_stem, features = shape[1], network.features or c_out
    if shape[2:] != space:
        _check_dilations(config, space, shape[2:])
    head, shape = _plan(config, "head", network.head, (shape[0], features, *shape[2:]), c_out)
    last: Path = ("network", "head", len(network.head) - 1) if head else ("network", "stem")
    if shape[1] != c_out:
        raise config.error(
            last,
            f"gives {shape[1]} channels; the output needs {c_out}. Have the last layer give {c_out}"
            f", or append {{ConvLayer: {{nf: {c_out}, ks: 1, norm_type: null, act_cls: null}}}}",
        )
    scale = shape[2] // space[0]
    if scale > 1 and config.stream is not None:
        raise config.error(last, "makes images larger, which series (stream) do not allow")
    if shape[2:] != tuple(scale * size for size in space):
        raise config.error(
            last,
            f"makes images of {_size(space)} pixels {_size(shape[2:])}; allowed: the same size, or "
            "a whole multiple of it",
        )
    return {"stem": stem, "c_stem": c_stem, "features": features, "head": head, "scale": scale}


def _check_dilations(config: ExperimentConfig, space: Shape, inside: Shape) -> None:
    """Raise if the stem makes images of size ``space`` too small for the dilations."""
    network = config.network
    try:
        check_dilations(network.dilations[: network.depth], inside, network.padding)
    except ValueError as error:
        raise config.error(
            ("network", "dilations"),
            f"{error}, which the stem makes of {_size(space)} pixels; choose smaller ones",
        ) from None


def _refuse_temporal(config: ExperimentConfig, path: Path, chain: Sequence[Any]) -> None:
    """Raise if a layer takes the images of a batch for the frames of a series."""
    for index, layer in enumerate(chain):
        here = (*path, index)
        if isinstance(layer, list):
            _refuse_temporal(config, here, layer)
            continue
        if not is_layer(layer):
            continue  # planning it will tell
        name, arguments = split(layer)
        if name in TEMPORAL:
            raise config.error(here, f"{name} is for series; say which axis is time: stream.axis")
        inner = arguments.get("layers") if isinstance(arguments, dict) else None
        if isinstance(inner, list):
            _refuse_temporal(config, (*here, name, "layers"), inner)


def _size(space: Sequence[int]) -> str:
    return " x ".join(map(str, space))


def _plan(
    config: ExperimentConfig, key: str, chain: Sequence[Any], shape: Shape, wanted: int | None
) -> tuple[list[Any], Shape]:
    try:
        return plan_chain(chain, shape, wanted)
    except LayerError as error:
        raise config.error(("network", key, *error.path), error.message) from None


def _inside(config: ExperimentConfig, channels: int, space: Sequence[int]) -> Architecture:
    """Plan the operation, activation and normalisation of the hidden layers."""
    network = config.network
    tables = {"operation": OPERATIONS, "activation": ACTIVATIONS, "norm": NORMS}
    planned: Architecture = {}
    for key, table in tables.items():
        layer = getattr(network, key)
        planned[key] = layer
        if layer is None or layer == CONVOLUTION:
            continue
        try:
            front, others = (channels, [CONVOLUTION]) if key == "operation" else (network.width, [])
            if key == "operation":
                _refuse_channels(layer)
            planned[key] = plan_layer(table, layer, front, network.width, len(space), others)
            _try_inside(config, key, table, planned[key], channels, space)
        except LayerError as error:
            raise config.error(("network", key, *error.path), error.message) from None
    return planned


def _refuse_channels(operation: Any) -> None:
    """Raise if channels are given to a kernel: they differ from hidden layer to hidden layer."""
    path: Path = ()
    arguments: Any = {"operation": operation}
    for key in ("operation", "kernel"):
        layer = arguments.get(key) if isinstance(arguments, dict) else None
        if not is_layer(layer):
            return  # planning it will tell
        name, arguments = split(layer)
        path = (*path, name) if key == "operation" else (*path, key, name)
    for key in ("in_channels", "out_channels"):
        if key in arguments:
            raise LayerError(
                (*path, key),
                "differs from hidden layer to hidden layer; leave it out, it follows from the "
                "images and network.width",
            )


def _try_inside(
    config: ExperimentConfig,
    key: str,
    table: Mapping[str, Kind],
    planned: Any,
    channels: int,
    space: Sequence[int],
) -> None:
    """Try a network whose hidden layers have this one of `GENERAL`, and the usual others."""
    network = config.network
    arguments = network.model_dump(include=set(ARGUMENTS)) | {key: planned}
    arguments |= {"depth": min(network.depth, TRIAL_DEPTH), "ndim": len(space)}
    # The sizes of dilations and images are looked at where images are read.
    shape = (1, channels, *(max(size, 2 * max(network.dilations) + 1) for size in space))
    output = attempt(lambda: GeneralMSDModule(channels, 1, **arguments), [shape])
    if isinstance(output, str):
        name, _ = split(planned)
        text = signature(name, table[name])
        raise LayerError((name,), f"cannot be used with these arguments ({output}). {text}")


def build_network(architecture: Mapping[str, Any]) -> ScaledNetwork:
    """Make the network; its weights are random, its scaling layers pass values on."""
    arguments = dict(architecture)
    c_in, c_out = arguments.pop("c_in"), arguments.pop("c_out")
    stem, head = arguments.pop("stem", []), arguments.pop("head", [])
    c_stem, features = arguments.pop("c_stem", c_in), arguments.pop("features", c_out)
    scale, stream = arguments.pop("scale", 1), arguments.pop("stream", None)
    ndim = arguments["ndim"]
    if stream is not None:
        arguments["ndim"] = 2
    kind: type[nn.Module] = GeneralMSDModule if GENERAL[0] in arguments else MSDModule
    msd = kind(c_stem, features, **arguments)
    if head:
        # Zeros, with which the 1x1 layer starts, could leave layers behind it without gradients.
        nn.init.xavier_normal_(msd.get_parameter("final_layer.linear.weight"))
    before, after = make_chain(stem), make_chain(head)
    if stream is not None:
        return SeriesNetwork(msd, c_in, c_out, **stream, stem=before, head=after)
    return ScaledNetwork(msd, c_in, c_out, ndim, stem=before, head=after, scale=scale)


def has_all_layers(architecture: Mapping[str, Any], state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has weights of the deepest hidden layer that the network should have."""
    last = architecture["depth"] - 1
    start = f"msd.layers.{last}." if GENERAL[0] in architecture else f"msd.msd_block.weight{last}"
    return any(name.startswith(start) for name in state)
