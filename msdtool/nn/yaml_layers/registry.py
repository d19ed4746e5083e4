"""The layers that an experiment can name, and the arguments that are inferred for them."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from typing import Any, NamedTuple

from torch import nn

from msdtool.nn import encoding, layers, semifield, streaming
from msdtool.nn.layers import SequentialEx
from msdtool.nn.semifield import BroadcastSemifield, SelectSemifield, SubtractSemifield
from msdtool.nn.streaming.frames import InFrames
from msdtool.ops.semifield.geometry import Kind as Direction

Arguments = Mapping[str, Any]
Inferred = Callable[[int, int, Arguments], dict[str, Any]]
"""(channels of the input, wanted channels of the output, given arguments) -> other arguments."""


def _nothing(_channels: int, _wanted: int, _given: Arguments) -> dict[str, Any]:
    return {}


class Kind(NamedTuple):
    """A layer that can be named.

    Attributes:
        make: the class, or a function that makes the layer.
        family: group in the documentation.
        inferred: infers the arguments that may be omitted.
        passes_to: the layer that ``make`` passes its ``**kwargs`` to.
    """

    make: Callable[..., Any]
    family: str
    inferred: Inferred = _nothing
    passes_to: "Kind | None" = None


def _input_as(name: str) -> Inferred:
    """Infer the argument ``name``: the input's channels."""
    return lambda channels, _wanted, _given: {name: channels}


def _both_as(name_in: str, name_out: str) -> Inferred:
    """Infer the arguments for the input's and the output's channels."""
    return lambda channels, wanted, _given: {name_in: channels, name_out: wanted}


def _expanded(channels: int, wanted: int, given: Arguments) -> dict[str, Any]:
    """Infer a residual block's channels, counted in units of ``expansion``, which defaults to 1."""
    expansion = given.get("expansion", 1)
    if not isinstance(expansion, int) or expansion < 1 or channels % expansion:
        raise ValueError(f"expansion is {expansion}; expected a divisor of the {channels} channels")
    return {"expansion": expansion, "ni": channels // expansion, "nf": max(wanted // expansion, 1)}


def _same_padding(_channels: int, _wanted: int, _given: Arguments) -> dict[str, Any]:
    return {"padding": "same"}


def _each_channel(channels: int, _wanted: int, _given: Arguments) -> dict[str, Any]:
    """Infer a closing of each channel on its own, at the border as in an unbounded image."""
    return {
        "conv_dilation": "SelectSemifield.tropical_max",
        "conv_erosion": "SelectSemifield.tropical_min_negated",
        "groups": channels,
        "padding": "same",
    }


def _temporal(channels: int, wanted: int, _given: Arguments) -> dict[str, Any]:
    """Infer a temporal convolution that initially copies frames: zeros would never train."""
    return {"in_channels": channels, "out_channels": wanted, "weights": "identity"}


def _in_frames(kind: Callable[..., streaming.Layer]) -> Callable[..., nn.Module]:
    """Return a function that makes a temporal layer for batches of frames."""

    @wraps(kind)
    def make(*args: Any, **kwargs: Any) -> nn.Module:
        return InFrames(kind(*args, **kwargs))

    return make


def _by(make_semifield: Callable[..., Any]) -> Callable[..., nn.Module]:
    """Return a function that makes a semifield's convolution from the semifield's arguments."""

    @wraps(make_semifield)
    def make(*args: Any, **kwargs: Any) -> nn.Module:
        convolution: nn.Module = make_semifield(*args, **kwargs).dynamic()
        return convolution

    return make


def _hidden_conv(kernel: nn.Module, conv: nn.Module, kind: Direction = "conv") -> nn.Module:
    """Make a `GenericConv` whose other arguments differ from hidden layer to hidden layer."""
    return semifield.GenericConv(kernel, conv, kind=kind)


def _sequential_ex(layers: Sequence[nn.Module]) -> nn.Module:
    return SequentialEx(*layers)


NORMS = {
    "BatchNorm": Kind(
        layers.BatchNorm, "normalisation", _input_as("nf"), Kind(nn.BatchNorm2d, "normalisation")
    ),
    "DistSyncBatchNorm": Kind(
        encoding.DistSyncBatchNorm, "normalisation", _input_as("num_features")
    ),
    "InstanceNorm": Kind(
        layers.InstanceNorm,
        "normalisation",
        _input_as("nf"),
        Kind(nn.InstanceNorm2d, "normalisation"),
    ),
    "SyncBatchNorm": Kind(encoding.SyncBatchNorm, "normalisation", _input_as("num_features")),
}

ACTIVATIONS = {
    name: Kind(make, "activation")
    for name, make in {
        "ELU": nn.ELU,
        "GELU": nn.GELU,
        "Identity": nn.Identity,
        "LeakyReLU": nn.LeakyReLU,
        "Mish": nn.Mish,
        "MishJit": layers.MishJit,
        "ReLU": nn.ReLU,
        "SiLU": nn.SiLU,
        "Sigmoid": nn.Sigmoid,
        "SigmoidRange": layers.SigmoidRange,
        "Softplus": nn.Softplus,
        "Swish": layers.Swish,
        "SwishJit": layers.SwishJit,
        "Tanh": nn.Tanh,
    }.items()
}

KERNELS = {
    make.__name__: Kind(make, "kernel", _both_as("in_channels", "out_channels"))
    for make in (
        semifield.LearnedKernel2D,
        semifield.LearnedKernel3D,
        semifield.QuadraticKernelCholesky2D,
        semifield.QuadraticKernelIso2D,
        semifield.QuadraticKernelIso3D,
        semifield.QuadraticKernelSpectral2D,
    )
}

_MAXIMUM_MINIMUM = ("tropical_max", "tropical_min_negated")
_SMOOTH = ("linear", "log", "root")

SEMIFIELDS = {
    f"{cls.__name__}.{name}": Kind(_by(getattr(cls, name)), "semifield")
    for cls, names in (
        (BroadcastSemifield, _SMOOTH + _MAXIMUM_MINIMUM),
        (SelectSemifield, _MAXIMUM_MINIMUM),
        (SubtractSemifield, _SMOOTH),
    )
    for name in names
} | {"TorchLinearConv2D": Kind(semifield.TorchLinearConv2D, "semifield")}

POOLS = {"AvgPool": Kind(layers.AvgPool, "pooling"), "MaxPool": Kind(layers.MaxPool, "pooling")}

CONVOLUTION = Kind(layers.ConvLayer, "convolution", _both_as("ni", "nf"))
RESIDUAL = Kind(layers.ResBlock, "residual", _expanded, CONVOLUTION)

LAYERS = {
    **ACTIVATIONS,
    **NORMS,
    **POOLS,
    "AdaptiveAvgPool": Kind(layers.AdaptiveAvgPool, "pooling"),
    "AdaptiveConcatPool2d": Kind(layers.AdaptiveConcatPool2d, "pooling"),
    "Cat": Kind(layers.Cat, "container"),
    "ContextEncoding": Kind(encoding.ContextEncoding, "encoding", _input_as("in_channels")),
    "Conv1d": Kind(_in_frames(streaming.Conv1d), "streaming", _temporal),
    "Conv2d": Kind(_in_frames(streaming.Conv2d), "streaming", _temporal),
    "Conv3d": Kind(_in_frames(streaming.Conv3d), "streaming", _temporal),
    "ConvLayer": CONVOLUTION,
    "Delay": Kind(_in_frames(streaming.Delay), "streaming"),
    "Dropout": Kind(nn.Dropout, "regularisation"),
    "GenericClosing": Kind(semifield.GenericClosing, "semifield", _each_channel),
    "GenericConv": Kind(semifield.GenericConv, "semifield", _same_padding),
    "LN": Kind(_in_frames(streaming.LN), "streaming", _temporal),
    "MergeLayer": Kind(layers.MergeLayer, "container"),
    "MyMemoryConv": Kind(
        _in_frames(streaming.MyMemoryConv), "streaming", _both_as("in_channels", "out_channels")
    ),
    "NLRectify": Kind(_in_frames(streaming.NLRectify), "streaming"),
    "NLSquare": Kind(_in_frames(streaming.NLSquare), "streaming"),
    "PixelShuffle_ICNR": Kind(layers.PixelShuffle_ICNR, "upsampling", _both_as("ni", "nf")),
    "PooledSelfAttention2d": Kind(
        layers.PooledSelfAttention2d, "attention", _input_as("n_channels")
    ),
    "ProdLayer": Kind(layers.ProdLayer, "container"),
    "ResBlock": RESIDUAL,
    "SEBlock": Kind(layers.SEBlock, "residual", _expanded, RESIDUAL),
    "SEModule": Kind(layers.SEModule, "attention", _input_as("ch")),
    "SEResNeXtBlock": Kind(layers.SEResNeXtBlock, "residual", _expanded, RESIDUAL),
    "SelfAttention": Kind(layers.SelfAttention, "attention", _input_as("n_channels")),
    "SeparableBlock": Kind(layers.SeparableBlock, "residual", _expanded, RESIDUAL),
    "SequentialEx": Kind(_sequential_ex, "container"),
    "SimpleSelfAttention": Kind(layers.SimpleSelfAttention, "attention", _input_as("n_in")),
    "TemporalLowPassFilterRecursive": Kind(
        _in_frames(streaming.TemporalLowPassFilterRecursive), "streaming"
    ),
    "TorchMaxPool2D": Kind(semifield.TorchMaxPool2D, "pooling"),
    "UpsampleConv2d": Kind(
        encoding.UpsampleConv2d, "upsampling", _both_as("in_channels", "out_channels")
    ),
}

TEMPORAL = ("Conv1d", "Conv3d", "Delay", "LN", "MyMemoryConv", "TemporalLowPassFilterRecursive")
"""Layers that link the frames of a series."""

OPERATIONS = {"GenericConv": Kind(_hidden_conv, "semifield")}
"""What hidden layers can compute instead of a convolution."""

NESTED: dict[str, dict[str, Kind]] = {
    "act_cls": ACTIVATIONS,
    "conv": SEMIFIELDS,
    "conv_dilation": SEMIFIELDS,
    "conv_erosion": SEMIFIELDS,
    "kernel": KERNELS,
    "pool": POOLS,
}
"""Arguments that name a layer of one of the tables."""

SHORTCUTS = ("MergeLayer", "ProdLayer")
"""Layers that also take the input of the enclosing `SequentialEx`."""

MADE_LATER = ("act_cls", "pool")
"""Nested arguments that are passed as a function that makes the layer, not as the layer."""

UNAVAILABLE = ("device", "dtype", "process_group", "xtra")
"""Arguments that are objects and cannot be given in YAML."""


def make_layer(table: Mapping[str, Kind], name: str, arguments: Arguments) -> Any:
    """Make a layer from its complete arguments as plain data.

    Args:
        table: the layers that ``name`` is looked up in.
        name: the layer.
        arguments: numbers, strings and lists; layers as a name or {name: arguments}.
    """
    return table[name].make(**_converted(arguments))


def _converted(arguments: Arguments) -> dict[str, Any]:
    return {key: _convert(key, value) for key, value in arguments.items()}


def _convert(key: str, value: Any) -> Any:
    """Convert an argument from plain data to what the layer takes."""
    if key == "layers":
        return [
            make_chain(item) if isinstance(item, list) else make_layer(LAYERS, *split(item))
            for item in value
        ]
    if key == "norm_type" and value is not None:
        return layers.NormType[value]
    if key in NESTED and value is not None:
        name, inner = split(value)
        make = partial(NESTED[key][name].make, **_converted(inner))
        return make if key in MADE_LATER else make()
    return tuple(value) if isinstance(value, list) else value


def make_chain(chain: Sequence[Any]) -> nn.Sequential:
    """Make layers in sequence; each is a name or {name: arguments}."""
    return nn.Sequential(*(make_layer(LAYERS, *split(layer)) for layer in chain))


def split(layer: Any) -> tuple[str, dict[str, Any]]:
    """Split a layer, as a config names it, into name and arguments."""
    if isinstance(layer, str):
        return layer, {}
    name, arguments = next(iter(layer.items()))
    return name, arguments or {}
