"""Estimates of the memory that a network needs."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from msdtool.architecture import Architecture
from msdtool.errors import DoesNotFit
from msdtool.nn.yaml_layers.registry import make_chain
from msdtool.ops.engine import WORKSPACE_BYTES

BYTES_PER_VALUE = 4


def activation_bytes(architecture: Architecture, space: Sequence[int], batch: int = 1) -> int:
    """Return the size of all channels and of the outputs of the layers around them, in bytes.

    Args:
        architecture: of the network.
        space: spatial shape of the images.
        batch: number of images.
    """
    if architecture.outer is None:
        values = _block_channels(architecture, architecture.c_in) * math.prod(space)
    else:
        values = _values_with_outer_layers(architecture, space)
    return BYTES_PER_VALUE * batch * values


def _block_channels(architecture: Architecture, c_in: int) -> int:
    return c_in + architecture.width * architecture.depth


def _values_with_outer_layers(architecture: Architecture, space: Sequence[int]) -> int:
    """Count the values that all layers output for one image, by a trial without memory."""
    outer = architecture.outer
    assert outer is not None
    outputs: dict[int, Tensor] = {}

    def keep(_layer: nn.Module, _inputs: Any, output: Any) -> None:
        # A container outputs the tensor of its last layer.
        outputs[id(output)] = output

    with torch.device("meta"), torch.no_grad():
        stem, head = make_chain(outer.stem), make_chain(outer.head)
        for name, layer in (*stem.named_modules(), *head.named_modules()):
            if "parametrizations" not in name:
                layer.register_forward_hook(keep)
        shape: tuple[int, ...] = (1, architecture.c_in, *space)
        if architecture.stream is not None:
            shape = architecture.stream.frames_shape(shape)
        image = torch.empty(shape)
        stemmed = stem.eval()(image)
        features = torch.empty(len(stemmed), outer.features, *stemmed.shape[2:])
        head.eval()(features)
    inputs = (id(image), id(features))  # an empty chain outputs its input
    around = sum(output.numel() for key, output in outputs.items() if key not in inputs)
    block = _block_channels(architecture, outer.c_stem) * math.prod(stemmed.shape[2:])
    return around + block * len(stemmed)


def training_bytes(architecture: Architecture, space: Sequence[int], batch: int = 1) -> int:
    """Estimate a training step: activations, their gradients and a bounded workspace."""
    return 2 * activation_bytes(architecture, space, batch) + WORKSPACE_BYTES


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch or an engine ran out of memory, that of a GPU or of the machine."""
    if isinstance(error, torch.OutOfMemoryError | DoesNotFit):
        return True
    return "can't allocate memory" in str(error)  # of the CPU, for which torch has no class


def prediction_bytes(architecture: Architecture, space: Sequence[int]) -> int:
    """Estimate the application of a network to one image or series, whose rows have a halo."""
    stream = architecture.stream
    if stream is not None:
        space = [min(n, stream.dt) if axis == stream.axis else n for axis, n in enumerate(space)]
    halo = 2 * max(architecture.dilations)
    padded = (*space[:-1], space[-1] + halo)
    return activation_bytes(architecture, padded) + WORKSPACE_BYTES
