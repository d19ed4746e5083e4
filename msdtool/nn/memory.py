"""How much memory a network needs, before it takes it."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from msdtool.nn.build import Architecture, frames_shape
from msdtool.nn.registry import make_chain

BYTES_PER_VALUE = 4
WORKSPACE_BYTES = 64 * 2**20


def activation_bytes(architecture: Architecture, space: Sequence[int], batch: int = 1) -> int:
    """Size of all channels of the block and of the outputs of the layers around it, in bytes."""
    if "stem" in architecture:
        return BYTES_PER_VALUE * batch * _values_with_chains(architecture, space)
    return BYTES_PER_VALUE * batch * _block_channels(architecture) * math.prod(space)


def _block_channels(architecture: Architecture) -> int:
    return int(architecture["c_in"] + architecture["width"] * architecture["depth"])


def _values_with_chains(architecture: Architecture, space: Sequence[int]) -> int:
    """Values that the layers give for one image; they are applied without memory and counted."""
    outputs: dict[int, Tensor] = {}

    def keep(_layer: nn.Module, _inputs: Any, output: Any) -> None:
        # A container gives the tensor of its last layer.
        outputs[id(output)] = output

    with torch.device("meta"), torch.no_grad():
        stem, head = make_chain(architecture["stem"]), make_chain(architecture["head"])
        for name, layer in (*stem.named_modules(), *head.named_modules()):
            if "parametrizations" not in name:
                layer.register_forward_hook(keep)
        shape = (1, architecture["c_in"], *space)
        stream = architecture.get("stream")
        image = torch.empty(shape if stream is None else frames_shape(shape, stream["axis"]))
        stemmed = stem.eval()(image)
        features = torch.empty(len(stemmed), architecture["features"], *stemmed.shape[2:])
        head.eval()(features)
    given = (id(image), id(features))  # which an empty chain passes on
    around = sum(output.numel() for key, output in outputs.items() if key not in given)
    block = {**architecture, "c_in": architecture["c_stem"]}
    return around + _block_channels(block) * len(stemmed) * math.prod(stemmed.shape[2:])


def training_bytes(architecture: Architecture, space: Sequence[int], batch: int = 1) -> int:
    """Estimate of a training step: activations, their gradients and a bounded workspace."""
    return 2 * activation_bytes(architecture, space, batch) + WORKSPACE_BYTES


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch raised an error because memory, of a GPU or of the machine, ran out."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def prediction_bytes(architecture: Architecture, space: Sequence[int]) -> int:
    """Estimate of applying the network to one image or series, whose rows have a halo."""
    stream = architecture.get("stream")
    if stream is not None:
        space = [min(n, stream["dt"]) if i == stream["axis"] else n for i, n in enumerate(space)]
    halo = 2 * max(architecture["dilations"])
    padded = (*space[:-1], space[-1] + halo)
    return activation_bytes(architecture, padded) + WORKSPACE_BYTES
