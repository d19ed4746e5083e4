"""How much memory a network needs, before it takes it."""

import math
from collections.abc import Sequence

import torch

from msdtool.nn.build import Architecture

BYTES_PER_VALUE = 4
WORKSPACE_BYTES = 64 * 2**20


def activation_bytes(architecture: Architecture, space: Sequence[int], batch: int = 1) -> int:
    """Size of the buffer that holds all channels of the block, in bytes."""
    channels = architecture["c_in"] + architecture["width"] * architecture["depth"]
    return BYTES_PER_VALUE * batch * channels * math.prod(space)


def training_bytes(architecture: Architecture, space: Sequence[int], batch: int = 1) -> int:
    """Estimate of a training step: activations, their gradients and a bounded workspace."""
    return 2 * activation_bytes(architecture, space, batch) + WORKSPACE_BYTES


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch raised an error because memory, of a GPU or of the machine, ran out."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def prediction_bytes(architecture: Architecture, space: Sequence[int]) -> int:
    """Estimate of applying the network to one image, or to a series of frames."""
    stream = architecture.get("stream")
    if stream is not None:
        space = [min(n, stream["dt"]) if i == stream["axis"] else n for i, n in enumerate(space)]
    return activation_bytes(architecture, space) + WORKSPACE_BYTES
