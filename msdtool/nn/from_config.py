"""The architecture that a config asks for, tried on the sizes of the images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from msdtool.architecture import Architecture, HiddenLayers, OuterLayers, Stream
from msdtool.config import ExperimentConfig, NetworkConfig
from msdtool.nn.yaml_layers.chain import (
    LayerError,
    Path,
    Shape,
    attempt,
    is_layer,
    plan_chain,
    plan_layer,
)
from msdtool.nn.yaml_layers.general import CONVOLUTION, GeneralMSDModule
from msdtool.nn.yaml_layers.registry import (
    ACTIVATIONS,
    NORMS,
    OPERATIONS,
    TEMPORAL,
    Kind,
    split,
)
from msdtool.nn.yaml_layers.signatures import signature
from msdtool.ops.checks import check_dilations
from msdtool.wording import size_text

TRIAL_DEPTH = 2


def plan_architecture(
    config: ExperimentConfig, c_in: int, c_out: int, space: Sequence[int]
) -> Architecture:
    """Return the architecture that a config asks for.

    Args:
        config: the experiment.
        c_in: channels of the input images.
        c_out: channels of the output.
        space: spatial shape of the images, on which layers around the network are tried.

    Raises:
        ConfigError: a layer does not exist, not with these arguments, or does not fit; names file,
            line and key.
    """
    network, stream = config.network, _stream(config)
    shape: Shape = (config.training.batch_size, c_in, *space)
    if stream is not None:
        shape = stream.frames_shape(shape)
    outer = hidden = None
    with _config_errors(config):
        if network.stem or network.head:
            outer = _plan_outer(network, c_out, shape, is_series=stream is not None)
        if (network.operation, network.activation, network.norm) != (CONVOLUTION, "ReLU", None):
            hidden = _plan_hidden(network, outer.c_stem if outer else c_in, shape[2:])
    return Architecture(
        c_in=c_in,
        c_out=c_out,
        depth=network.depth,
        width=network.width,
        dilations=tuple(network.dilations),
        ndim=network.ndim,
        padding=network.padding,
        stream=stream,
        outer=outer,
        hidden=hidden,
    )


def check_scale(config: ExperimentConfig, architecture: Architecture, found: int) -> None:
    """Check that the network outputs images of the targets' size.

    Args:
        config: the experiment.
        architecture: of its network.
        found: the targets' sides are this many times as long as the inputs'.

    Raises:
        ConfigError: it does not.
    """
    if found != architecture.scale:
        advice = (
            "leave out the layers that enlarge them"
            if found == 1
            else f"a layer such as {{PixelShuffle_ICNR: {{scale: {found}, act_cls: null}}}} at the "
            "end would enlarge them"
        )
        raise config.error(
            ("network", "head"),
            f"the network outputs images {architecture.scale} times as large as the inputs, and "
            f"the targets are {found} times as large; {advice}",
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
        training: spatial shapes of the images that it is trained on.
        validation: spatial shapes of the images that it is measured on.

    Raises:
        ConfigError: a layer cannot work on one of them; names file, line and key.
    """
    outer, stream = architecture.outer, architecture.stream
    if outer is None:
        return
    shapes: list[Shape] = []
    for sizes, is_training in ((training, True), (validation, False)):
        for size in sizes:
            shape: Shape = (1, architecture.c_in, *size)
            if stream is not None:
                frames, *image = stream.frames_shape(shape)
                shape = (frames if is_training else min(frames, stream.dt), *image)
            shapes.append(shape)
    with _config_errors(config):
        for shape in dict.fromkeys(shapes):
            planned = _plan_outer(
                config.network, architecture.c_out, shape, is_series=stream is not None
            )
            if planned.scale != outer.scale:
                raise LayerError(
                    ("head",),
                    f"outputs images {planned.scale} times as large as inputs of "
                    f"{size_text(shape[2:])} pixels, and {outer.scale} times as large as others; "
                    "the factor must be the same for all sizes",
                )


@contextmanager
def _config_errors(config: ExperimentConfig) -> Iterator[None]:
    """Turn a `LayerError` below the key ``network`` into a ConfigError with file and line."""
    try:
        yield
    except LayerError as error:
        raise config.error(("network", *error.path), error.message) from None


@contextmanager
def _below(*path: str) -> Iterator[None]:
    """Put the keys of ``path`` before the path of a `LayerError`."""
    try:
        yield
    except LayerError as error:
        raise LayerError((*path, *error.path), error.message) from None


def _stream(config: ExperimentConfig) -> Stream | None:
    return (
        None
        if config.stream is None
        else Stream(config.stream.axis, config.stream.frames_per_chunk)
    )


# Layers before and after the network ----------------------------------------------------------


def _plan_outer(
    network: NetworkConfig, c_out: int, shape: Shape, *, is_series: bool
) -> OuterLayers:
    """Plan the stem and the head for images, or frames of sequences, of a shape [B, C, *space]."""
    space = shape[2:]
    if not is_series:
        _refuse_temporal(("stem",), network.stem)
        _refuse_temporal(("head",), network.head)
    with _below("stem"):
        stem, shape = plan_chain(network.stem, shape)
    c_stem, features = shape[1], network.features or c_out
    if shape[2:] != space:
        _check_dilations(network, space, shape[2:])
    with _below("head"):
        head, shape = plan_chain(network.head, (shape[0], features, *shape[2:]), c_out)
    scale = shape[2] // space[0]
    last: Path = ("head", len(network.head) - 1) if head else ("stem",)
    if shape[1] != c_out:
        raise LayerError(
            last,
            f"outputs {shape[1]} channels; the output needs {c_out}. Have the last layer output "
            f"{c_out}, or append {{ConvLayer: {{nf: {c_out}, ks: 1, norm_type: null, "
            "act_cls: null}}",
        )
    if scale > 1 and is_series:
        raise LayerError(last, "enlarges images, which image sequences (stream) do not allow")
    if shape[2:] != tuple(scale * size for size in space):
        raise LayerError(
            last,
            f"turns images of {size_text(space)} pixels into {size_text(shape[2:])}; allowed: the "
            "same size, or an integer multiple of it",
        )
    return OuterLayers(stem, c_stem, features, head, scale)


def _check_dilations(network: NetworkConfig, space: Shape, inside: Shape) -> None:
    """Raise if images of shape ``space`` are too small for the dilations after the stem."""
    try:
        check_dilations(network.dilations[: network.depth], inside, network.padding)
    except ValueError as error:
        raise LayerError(
            ("dilations",),
            f"{error}, after the stem reduces {size_text(space)}; choose smaller ones",
        ) from None


def _refuse_temporal(path: Path, chain: Sequence[Any]) -> None:
    """Raise if a layer treats the images of a batch as the frames of a sequence."""
    for index, layer in enumerate(chain):
        here = (*path, index)
        if isinstance(layer, list):
            _refuse_temporal(here, layer)
            continue
        if not is_layer(layer):
            continue  # reported when it is planned
        name, arguments = split(layer)
        if name in TEMPORAL:
            raise LayerError(
                here, f"{name} is for image sequences; name the axis of time: stream.axis"
            )
        inner = arguments.get("layers") if isinstance(arguments, dict) else None
        if isinstance(inner, list):
            _refuse_temporal((*here, name, "layers"), inner)


# Hidden layers --------------------------------------------------------------------------------


def _plan_hidden(network: NetworkConfig, channels: int, space: Sequence[int]) -> HiddenLayers:
    """Plan the operation, activation and normalisation of the hidden layers."""
    tables = {"operation": OPERATIONS, "activation": ACTIVATIONS, "norm": NORMS}
    planned: dict[str, Any] = {}
    for key, table in tables.items():
        layer = planned[key] = getattr(network, key)
        if layer is None or layer == CONVOLUTION:
            continue
        with _below(key):
            c_in, others = network.width, []
            if key == "operation":
                c_in, others = channels, [CONVOLUTION]
                _refuse_channels(layer)
            planned[key] = plan_layer(table, layer, c_in, network.width, len(space), others)
            _try_hidden(network, key, table, planned[key], channels, space)
    return HiddenLayers(**planned)


def _refuse_channels(operation: Any) -> None:
    """Raise if a kernel is given channels, which differ from hidden layer to hidden layer."""
    path: Path = ()
    arguments: Any = {"operation": operation}
    for key in ("operation", "kernel"):
        layer = arguments.get(key) if isinstance(arguments, dict) else None
        if not is_layer(layer):
            return  # reported when it is planned
        name, arguments = split(layer)
        path = (*path, name) if key == "operation" else (*path, key, name)
    for key in ("in_channels", "out_channels"):
        if key in arguments:
            raise LayerError(
                (*path, key),
                "differs from hidden layer to hidden layer; leave it out, it follows from the "
                "images and network.width",
            )


def _try_hidden(
    network: NetworkConfig,
    key: str,
    table: Mapping[str, Kind],
    planned: Any,
    channels: int,
    space: Sequence[int],
) -> None:
    """Try a network whose hidden layers differ from the usual ones in a single key."""
    # The sizes of dilations and images are checked where images are read.
    shape = (1, channels, *(max(size, 2 * max(network.dilations) + 1) for size in space))

    def make() -> GeneralMSDModule:
        return GeneralMSDModule(
            channels,
            1,
            min(network.depth, TRIAL_DEPTH),
            network.width,
            network.dilations,
            len(space),
            network.padding,
            **{key: planned},
        )

    output = attempt(make, [shape])
    if isinstance(output, str):
        name, _ = split(planned)
        text = signature(name, table[name])
        raise LayerError((name,), f"cannot be used with these arguments ({output}). {text}")
