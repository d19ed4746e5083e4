"""Whether stored tensors are sound, and those of the network that is said to have them.

Nothing is built, so that a file that claims billions of channels takes no memory.
"""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from msdtool.architecture import Architecture
from msdtool.plain_data import shown

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
COUNTERS = "num_batches_tracked"
"""The tensors of this name, those of normalising layers, are integers."""

Shape = tuple[int, ...]


def check_tensors(tensors: Mapping[str, Tensor], name: str) -> None:
    """Check that tensors are on the CPU, dense, stored whole, of floats, and finite.

    Args:
        tensors: by their names.
        name: where they are, for error messages.

    Raises:
        ValueError: one is not; names it.
    """
    for key, tensor in tensors.items():
        is_dense = tensor.layout == torch.strided and not tensor.is_nested
        if tensor.device.type != "cpu" or not is_dense or tensor.is_quantized:
            raise ValueError(f"{name}.{key:.60} is not a dense tensor with values")
        if tensor.dtype not in (FLOATS if not key.endswith(COUNTERS) else (torch.int64,)):
            raise ValueError(f"{name}.{key:.60} has the dtype {tensor.dtype}; expected floats")
        # A single stored value can stand for billions.
        claimed = math.prod(tensor.shape) * tensor.element_size()
        if claimed > tensor.untyped_storage().nbytes():
            raise ValueError(
                f"{name}.{key:.60} claims {claimed:,} bytes, and "
                f"{tensor.untyped_storage().nbytes():,} are stored"
            )
    for key, tensor in tensors.items():
        # Networks compute in float32, in which a larger number is infinite.
        if not tensor.float().isfinite().all():
            raise ValueError(f"{name}.{key:.60} has NaN or infinite values")


def check_weights(architecture: Architecture, state: Mapping[str, Tensor], name: str) -> None:
    """Check the tensors of a network: whether they are sound, which there are, and their shapes.

    Of layers from YAML only the names' beginnings are known here; `msdtool.nn.build` compares the
    rest.

    Args:
        architecture: of the network; its numbers are checked.
        state: the state dict of a `msdtool.nn.scaling.ScaledNetwork`.
        name: what messages call it.

    Raises:
        ValueError: they are not those of the architecture; names the first that differs.
    """
    depth = architecture.depth
    found = _num_layers(architecture, state)
    if found != depth:  # before as many names as there should be are made
        raise ValueError(
            f"{name} has the weights of {found} hidden layers; the architecture has {depth}"
        )
    expected = dict(_shapes(architecture))
    for key, shape in expected.items():
        if key not in state:
            raise ValueError(f"{name} has no {key}")
        if tuple(state[key].shape) != shape:
            raise ValueError(
                f"{name}.{key} has shape {tuple(state[key].shape)}; the architecture needs {shape}"
            )
    others = () if architecture.outer is None else ("stem.", "head.")
    if architecture.hidden is not None:
        others = (*others, "msd.layers.")
    for key in state:
        if key not in expected and not key.startswith(others):
            raise ValueError(f"{name} has {shown(key)}, which the architecture does not have")
    check_tensors(state, name)


def _num_layers(architecture: Architecture, state: Mapping[str, Tensor]) -> int:
    if architecture.hidden is None:
        return sum(key.startswith("msd.msd_block.weight") for key in state)
    inside = (key.removeprefix("msd.layers.") for key in state if key.startswith("msd.layers."))
    return len({key.partition(".")[0] for key in inside})


def _shapes(architecture: Architecture) -> Iterator[tuple[str, Shape]]:
    """The tensors that every network of an architecture has."""
    outer, depth, width = architecture.outer, architecture.depth, architecture.width
    c_in, c_out = architecture.c_in, architecture.c_out
    first, last = (c_in, c_out) if outer is None else (outer.c_stem, outer.features)
    ndim = architecture.ndim if architecture.stream is None else 2
    for place, channels in (("scale_in", c_in), ("scale_out", c_out)):
        yield f"{place}.weight", (channels, channels, *(1,) * ndim)
        yield f"{place}.bias", (channels,)
    yield "msd.final_layer.linear.weight", (last, first + width * depth, 1)
    yield "msd.final_layer.linear.bias", (last,)
    if architecture.hidden is None:
        yield "msd.msd_block.bias", (depth * width,)
        for layer in range(depth):
            yield (
                f"msd.msd_block.weight{layer}",
                (width, first + width * layer, *(3,) * ndim),
            )
