"""Networks from plain descriptions, as a config or a checkpoint holds them."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from msdtool.config import ExperimentConfig
from msdtool.nn.chain import LayerError, Path, Shape, attempt, plan_chain, plan_layer
from msdtool.nn.general import CONVOLUTION, GeneralMSDModule
from msdtool.nn.msd import MSDModule
from msdtool.nn.registry import ACTIVATIONS, NORMS, OPERATIONS, make_chain
from msdtool.nn.scaling import ScaledNetwork

Architecture = dict[str, Any]
"""Everything that a network's shape depends on, as plain data.

The arguments of an `MSDModule`; those of a `GeneralMSDModule` if it is one; and if there are layers
around it, ``stem`` and ``head`` as `plan_chain` returns them, ``c_stem``, the channels after the
stem, ``features``, those in front of the head, and ``scale``, by which the image grows.
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
    shape = (config.training.batch_size, c_in, *space)
    if network.stem or network.head:
        description |= _around(config, c_out, shape)
    if (network.operation, network.activation, network.norm) != (CONVOLUTION, "ReLU", None):
        c_stem = description.get("c_stem", c_in)
        description |= _inside(config, c_stem, space)
    return description


def _around(config: ExperimentConfig, c_out: int, shape: Shape) -> Architecture:
    """Plan the stem and the head."""
    network = config.network
    space = shape[2:]
    stem, shape = _plan(config, "stem", network.stem, shape, None)
    c_stem, features = shape[1], network.features or c_out
    head, shape = _plan(config, "head", network.head, (shape[0], features, *shape[2:]), c_out)
    last: Path = ("network", "head", len(network.head) - 1) if head else ("network", "stem")
    if shape[1] != c_out:
        raise config.error(
            last,
            f"gives {shape[1]} channels; the output needs {c_out}. Have the last layer give {c_out}"
            f", or append {{ConvLayer: {{nf: {c_out}, ks: 1, norm_type: null, act_cls: null}}}}",
        )
    scale = shape[2] // space[0]
    if shape[2:] != tuple(scale * size for size in space):
        raise config.error(
            last,
            f"makes images of {_size(space)} pixels {_size(shape[2:])}; allowed: the same size, or "
            "a whole multiple of it",
        )
    return {"stem": stem, "c_stem": c_stem, "features": features, "head": head, "scale": scale}


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
            front = channels if key == "operation" else network.width
            planned[key] = plan_layer(table, layer, front, network.width, network.ndim)
        except LayerError as error:
            raise config.error(("network", key, *error.path), error.message) from None
    arguments = network.model_dump(include=set(ARGUMENTS)) | planned
    arguments["depth"] = min(network.depth, TRIAL_DEPTH)
    # The sizes of dilations and images are looked at where images are read.
    shape = (1, channels, *(max(size, 2 * max(network.dilations) + 1) for size in space))
    output = attempt(lambda: GeneralMSDModule(channels, 1, **arguments), [shape])
    if isinstance(output, str):
        key = "operation" if network.operation != CONVOLUTION else "norm"
        raise config.error(("network", key), f"cannot be used: {output}")
    return planned


def build_network(architecture: Mapping[str, Any]) -> ScaledNetwork:
    """Make the network; its weights are random, its scaling layers pass values on."""
    arguments = dict(architecture)
    c_in, c_out = arguments.pop("c_in"), arguments.pop("c_out")
    stem, head = arguments.pop("stem", []), arguments.pop("head", [])
    c_stem, features = arguments.pop("c_stem", c_in), arguments.pop("features", c_out)
    scale = arguments.pop("scale", 1)
    kind: type[nn.Module] = GeneralMSDModule if GENERAL[0] in arguments else MSDModule
    msd = kind(c_stem, features, **arguments)
    if head:
        # Zeros, with which the 1x1 layer starts, could leave layers behind it without gradients.
        nn.init.xavier_normal_(msd.get_parameter("final_layer.linear.weight"))
    return ScaledNetwork(
        msd,
        c_in,
        c_out,
        arguments["ndim"],
        stem=make_chain(stem),
        head=make_chain(head),
        scale=scale,
    )


def has_all_layers(architecture: Mapping[str, Any], state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has weights of the deepest hidden layer that the network should have."""
    last = architecture["depth"] - 1
    start = f"msd.layers.{last}." if GENERAL[0] in architecture else f"msd.msd_block.weight{last}"
    return any(name.startswith(start) for name in state)
