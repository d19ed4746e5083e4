"""Exact inference on images larger than memory, in strips of slices.

The receptive field of a deep network is too wide for tiles with a halo: 550 pixels at depth 100.
But k layers see only the sum of their k dilations. So all channels live in a store (memory, or a
file), and k layers at a time are computed strip by strip: read the strip's channels in front with
a halo of that sum, run the layers on them as on a small image, keep what the halo has not
spoiled. A strip that touches the image border keeps the image's border rule there.

A slice is one index of the first spatial axis: a row in 2D, a plane of rows in 3D.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from msdtool.ops.checks import check_block, check_final
from msdtool.ops.engine import Network
from msdtool.ops.engines import auto_engine
from msdtool.ops.plan import WORKSPACE_BYTES

MAX_LAYERS_PER_PASS = 16


class SlicedArray(Protocol):
    """Reads and writes ranges of its second axis: NumPy, memory-mapped, HDF5 and Zarr arrays."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, key: Any, /) -> Any: ...

    def __setitem__(self, key: Any, value: Any, /) -> None: ...


@dataclass(frozen=True)
class Pass:
    """Layers computed together, and the slices of a strip they leave unspoiled."""

    layers: range
    halo: int
    strip_slices: int


def msd_module_streamed(
    input: SlicedArray,
    weights: Sequence[Tensor],
    bias: Tensor,
    final_weight: Tensor,
    final_bias: Tensor,
    dilations: Sequence[int],
    padding: str = "symmetric",
    *,
    output: SlicedArray,
    memory_bytes: int,
    directory: str | Path | None = None,
) -> None:
    """Run `msd_module` on one image of any size, equal to float rounding.

    Memory stays below ``memory_bytes`` plus the parameters and what input and output keep
    themselves. The hidden channels, width*depth times the image, lie in memory if they fit half
    of it, else in a temporary file of ``directory``; the system may cache that file in memory
    that is otherwise free.

    Args:
        input: [c_in, *space], read as ``input[:, start:stop]``.
        weights, bias, final_weight, final_bias: as for `msd_module`, float32 or float64, on the
            CPU; the image is computed in their dtype.
        dilations, padding: as for `msd_module`.
        output: [c_out, *space], written as ``output[:, start:stop]``, each range once, in order.
        memory_bytes: limit; 64 MB of it is workspace.
        directory: where the temporary file goes; the system's default if None.

    Raises:
        ValueError: an argument does not fit `msd_module`, output has another shape, or the memory
            is too small for one slice and its halo.
    """
    check_block((1, *input.shape), weights, bias, dilations, padding)
    check_final(input.shape[0] + len(bias), final_weight, final_bias)
    if tuple(output.shape) != (len(final_bias), *input.shape[1:]):
        raise ValueError(
            f"output has shape {tuple(output.shape)}; "
            f"expected {(len(final_bias), *input.shape[1:])}"
        )
    space = tuple(input.shape[1:])
    per_layer = tuple(dilations[layer % len(dilations)] for layer in range(len(weights)))
    network = Network(input.shape[0], weights[0].shape[0], per_layer)
    num_stored = network.width * network.depth
    pixels_bytes = num_stored * int(np.prod(space)) * bias.element_size()
    in_memory = pixels_bytes + WORKSPACE_BYTES <= memory_bytes // 2
    strip_bytes = memory_bytes - WORKSPACE_BYTES - (pixels_bytes if in_memory else 0)
    passes = plan_passes(network, space, strip_bytes, bias)
    with torch.no_grad(), tempfile.TemporaryDirectory(prefix="msdtool-", dir=directory) as folder:
        store = _new_store((num_stored, *space), bias, None if in_memory else Path(folder))
        for step in passes:
            _run_pass(step, network, padding, input, store, weights, bias)
        _run_final(network, space, strip_bytes, input, store, final_weight, final_bias, output)
        # The file cannot be removed everywhere while it is mapped.
        del store


def plan_passes(
    network: Network, space: tuple[int, ...], strip_bytes: int, like: Tensor
) -> list[Pass]:
    """Cut the layers into passes whose strips fit ``strip_bytes``.

    A pass takes as many layers as leave at least half of each strip unspoiled: more layers read
    the store less often, but compute more halo. Where not even one layer does, it takes one.

    Raises:
        ValueError: one layer with one slice does not fit; names the bytes it needs.
    """
    passes = []
    first = 0
    while first < network.depth:
        choices = []
        for stop in range(first + 1, min(first + MAX_LAYERS_PER_PASS, network.depth) + 1):
            halo = sum(network.dilations[first:stop])
            part = _part(network, range(first, stop))
            slice_bytes = auto_engine(part, space, "zeros", like).slice_bytes
            strip = min(strip_bytes // slice_bytes, space[0] + 2 * halo) - 2 * halo
            if strip < 1 and stop == first + 1:
                raise ValueError(
                    f"the memory limit leaves {strip_bytes} bytes for a strip of layer {first}; "
                    f"it needs at least {slice_bytes * (1 + 2 * halo)}"
                )
            if strip >= min(2 * halo, space[0]) or stop == first + 1:
                choices.append(Pass(range(first, stop), halo, strip))
        passes.append(choices[-1])
        first = choices[-1].layers.stop
    return passes


def _part(network: Network, layers: range) -> Network:
    """Some layers, with all channels in front of them as input."""
    dilations = network.dilations[layers.start : layers.stop]
    return Network(network.channels_before(layers.start), network.width, dilations)


def _run_pass(
    step: Pass,
    network: Network,
    padding: str,
    input: SlicedArray,
    store: Tensor,
    weights: Sequence[Tensor],
    bias: Tensor,
) -> None:
    """Compute the layers of one pass for the whole image, from and to the store."""
    width, layers = network.width, step.layers
    part = _part(network, layers)
    m = part.c_in
    num_slices, *rest = store.shape[1:]
    for start, stop in _strips(num_slices, step.strip_slices):
        low, high = max(start - step.halo, 0), min(stop + step.halo, num_slices)
        engine = auto_engine(part, (high - low, *rest), padding, bias)
        planes = engine.new_planes(like=bias)
        pixels = engine.pixels(planes)
        _read_channels(pixels[:m], input, store, low, high)
        engine.forward(
            planes,
            weights[layers.start : layers.stop],
            bias[layers.start * width : layers.stop * width],
        )
        results = pixels[m:, start - low : stop - low]
        store[layers.start * width : layers.stop * width, start:stop] = results


def _run_final(
    network: Network,
    space: tuple[int, ...],
    strip_bytes: int,
    input: SlicedArray,
    store: Tensor,
    weight: Tensor,
    bias: Tensor,
    output: SlicedArray,
) -> None:
    """Apply the final 1x1 layer strip by strip."""
    whole = auto_engine(network, space, "zeros", bias)
    pixels_per_slice = int(np.prod(space[1:]))
    slice_bytes = whole.slice_bytes + len(bias) * pixels_per_slice * bias.element_size()
    for start, stop in _strips(space[0], max(1, strip_bytes // (2 * slice_bytes))):
        engine = auto_engine(network, (stop - start, *space[1:]), "zeros", bias)
        planes = engine.new_planes(like=bias)
        _read_channels(engine.pixels(planes), input, store, start, stop)
        result = bias.new_empty(len(bias), stop - start, *space[1:])
        engine.forward_final(planes, weight, bias, result)
        output[:, start:stop] = result.numpy()


def _strips(num_slices: int, strip_slices: int) -> Iterator[tuple[int, int]]:
    for start in range(0, num_slices, strip_slices):
        yield start, min(start + strip_slices, num_slices)


def _read_channels(
    pixels: Tensor, input: SlicedArray, store: Tensor, start: int, stop: int
) -> None:
    """Fill pixels [m, slices, ...] with the input channels and then as many stored ones."""
    c_in = input.shape[0]
    strip = np.ascontiguousarray(input[:, start:stop])
    pixels[:c_in] = torch.as_tensor(strip)
    pixels[c_in:] = store[: len(pixels) - c_in, start:stop]


def _new_store(shape: tuple[int, ...], like: Tensor, folder: Path | None) -> Tensor:
    """Channels [width * depth, *space] in memory, or in a sparse file of the folder."""
    if folder is None:
        return like.new_empty(shape)
    size = int(np.prod(shape))
    mapped = torch.from_file(str(folder / "channels"), shared=True, size=size, dtype=like.dtype)
    return mapped.view(shape)
