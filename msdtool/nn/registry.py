"""The layers that an experiment can name, and which of their arguments follow from the rest."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import nn

from msdtool.nn import encoding, layers
from msdtool.nn.layers import SequentialEx

Arguments = Mapping[str, Any]
Inferred = Callable[[int, int, Arguments], dict[str, Any]]
"""(channels of the input, channels that the output should have, arguments given) -> others."""


def _nothing(_channels: int, _wanted: int, _given: Arguments) -> dict[str, Any]:
    return {}


class Kind(NamedTuple):
    """A layer that can be named.

    Attributes:
        make: the class, or a function that makes the layer.
        family: for documentation.
        inferred: arguments that need not be given.
        passes_to: the layer whose arguments ``**kwargs`` of ``make`` are.
    """

    make: Callable[..., Any]
    family: str
    inferred: Inferred = _nothing
    passes_to: "Kind | None" = None


def _input_as(name: str) -> Inferred:
    """The input's channels are the argument ``name``."""
    return lambda channels, _wanted, _given: {name: channels}


def _both_as(name_in: str, name_out: str) -> Inferred:
    """Likewise, and the output's channels another one."""
    return lambda channels, wanted, _given: {name_in: channels, name_out: wanted}


def _expanded(channels: int, wanted: int, given: Arguments) -> dict[str, Any]:
    """Residual blocks count channels in units of ``expansion``, 1 unless given."""
    expansion = given.get("expansion", 1)
    if not isinstance(expansion, int) or expansion < 1 or channels % expansion:
        raise ValueError(f"expansion is {expansion}; expected a divisor of the {channels} channels")
    return {"expansion": expansion, "ni": channels // expansion, "nf": max(wanted // expansion, 1)}


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

POOLS = {"AvgPool": Kind(layers.AvgPool, "pooling"), "MaxPool": Kind(layers.MaxPool, "pooling")}

CONVOLUTION = Kind(layers.ConvLayer, "convolution", _both_as("ni", "nf"))
RESIDUAL = Kind(layers.ResBlock, "residual", _expanded, CONVOLUTION)

LAYERS = {
    **ACTIVATIONS,
    **NORMS,
    **POOLS,
    "Cat": Kind(layers.Cat, "container"),
    "ContextEncoding": Kind(encoding.ContextEncoding, "encoding", _input_as("in_channels")),
    "ConvLayer": CONVOLUTION,
    "Dropout": Kind(nn.Dropout, "regularisation"),
    "MergeLayer": Kind(layers.MergeLayer, "container"),
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
    "UpsampleConv2d": Kind(
        encoding.UpsampleConv2d, "upsampling", _both_as("in_channels", "out_channels")
    ),
}

OPERATIONS: dict[str, Kind] = {}
"""What hidden layers can compute, other than a convolution."""

NESTED: dict[str, dict[str, Kind]] = {"act_cls": ACTIVATIONS, "pool": POOLS}
"""Arguments that name a layer of one of the tables."""

MADE_LATER = ("act_cls", "pool")
"""Those that take a function which makes the layer, instead of the layer."""

UNAVAILABLE = ("device", "dtype", "init", "process_group", "xtra")
"""Arguments that are objects, which an experiment cannot name."""


def make_layer(table: Mapping[str, Kind], name: str, arguments: Arguments) -> Any:
    """Make a layer from plain arguments, all of them given.

    Args:
        table: where ``name`` is found.
        name: the layer.
        arguments: numbers, texts and lists; layers as a name or {name: arguments}.
    """
    converted: dict[str, Any] = {}
    for key, value in arguments.items():
        if key in NESTED and value is not None:
            inner, given = split(value)
            make = partial(make_layer, NESTED[key], inner, given)
            converted[key] = make if key in MADE_LATER else make()
        elif key == "layers":
            converted[key] = [
                make_chain(item) if isinstance(item, list) else make_layer(table, *split(item))
                for item in value
            ]
        elif key == "norm_type" and value is not None:
            converted[key] = layers.NormType[value]
        else:
            converted[key] = tuple(value) if isinstance(value, list) else value
    return table[name].make(**converted)


def make_chain(chain: Sequence[Any]) -> nn.Sequential:
    """Make layers one after the other; each is a name or {name: arguments}."""
    return nn.Sequential(*(make_layer(LAYERS, *split(layer)) for layer in chain))


def split(layer: Any) -> tuple[str, dict[str, Any]]:
    """A layer as a config names it, as its name and arguments."""
    if isinstance(layer, str):
        return layer, {}
    name, arguments = next(iter(layer.items()))
    return name, arguments or {}
