"""Exact inference on images larger than memory, in strips of slices.

The receptive field of a deep network is too wide for tiles with a halo: 550 pixels at depth 100.
But k layers see only the sum of their k dilations. So the channels lie in a file, and k layers at
a time, a pass, are computed strip by strip: read the strip's channels in front with a halo of that
sum, run the layers on them as on a small image, write what the halo has not spoiled. A strip that
touches the image border keeps the image's border rule there. The last pass has all channels of
its strips at hand and applies the final layer to them.

More layers in a pass mean fewer passes over the file, but a wider halo to compute twice, and more
channels in a strip, which is so much narrower: `plan_passes` weighs them.

A slice is one index of the first spatial axis: a row in 2D, a plane of rows in 3D.
"""

import errno
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from msdtool.ops.checks import check_block, check_final
from msdtool.ops.engine import Network
from msdtool.ops.engines import Engine, auto_engine
from msdtool.ops.plan import WORKSPACE_BYTES

# What reading or writing a byte of the file costs in arithmetic: on two AVX-512 cores 120 GFLOP/s
# of the engine against 2.7 GB/s from the system's cache of the file. A slow disk costs more.
FLOPS_PER_BYTE = 45
# What goes through the host's memory at once: the input, and channels of other devices.
STAGED_BYTES = 8 * 2**20
RESERVED_BYTES = WORKSPACE_BYTES + 2 * STAGED_BYTES
MAX_BUFFERS = 1024  # of one call, IOV_MAX


class SlicedArray(Protocol):
    """Reads and writes ranges of its second axis: NumPy, memory-mapped, HDF5 and Zarr arrays."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, key: Any, /) -> Any: ...

    def __setitem__(self, key: Any, value: Any, /) -> None: ...


@dataclass(frozen=True)
class Pass:
    """Layers computed together, and the slices of a strip they leave unspoiled.

    Attributes:
        layers: of the network.
        halo: slices on each side of a strip that are spoiled.
        strip_slices: slices of a strip that are not.
        cost: of an unspoiled pixel, in floating-point operations.
    """

    layers: range
    halo: int
    strip_slices: int
    cost: float


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
    tick: Callable[[float], None] = lambda done: None,
) -> None:
    """Run `msd_module` on one image of any size, equal to float rounding.

    Memory, that of the parameters' device, stays below ``memory_bytes`` plus the parameters and
    what input and output keep themselves. The channels lie in a temporary file; the system may
    keep it in memory that is otherwise free.

    Args:
        input: [c_in, *space], read as ``input[:, start:stop]``, each range once, in order.
        weights, bias, final_weight, final_bias: as for `msd_module`, float32 or float64; the
            image is computed in their dtype and on their device.
        dilations, padding: as for `msd_module`.
        output: [c_out, *space], written as ``output[:, start:stop]``, each range once, in order.
        memory_bytes: limit; 96 MB of it is workspace.
        directory: where the temporary file goes; the system's default if None.
        tick: called with the share of the work that is done.

    Raises:
        ValueError: an argument does not fit `msd_module`, output has another shape, or the memory
            is too small for one slice and its halo.
        OSError: the temporary file does not fit the disk.
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
    strip_bytes = memory_bytes - RESERVED_BYTES
    passes = plan_passes(network, space, strip_bytes, bias, len(final_bias))
    num_stored = network.channels_before(passes[-1].layers.start)
    with (
        torch.no_grad(),
        tempfile.TemporaryDirectory(prefix="msdtool-", dir=directory) as folder,
        closing(_Store(Path(folder) / "channels", num_stored, space, bias)) as store,
    ):
        store.fill(input)
        done = 0.0
        for step in passes:
            share = step.cost / sum(each.cost for each in passes) / space[0]
            runner = _PassRunner(step, network, padding, store, weights, bias)
            for start, stop in _strips(space[0], step.strip_slices):
                if step is passes[-1]:
                    output[:, start:stop] = runner.finish(start, stop, final_weight, final_bias)
                else:
                    runner.run(start, stop)
                done += share * (stop - start)
                tick(min(done, 1.0))


def plan_passes(
    network: Network,
    space: tuple[int, ...],
    strip_bytes: int,
    like: Tensor,
    c_out: int = 1,
) -> list[Pass]:
    """Cut the layers into passes whose strips fit ``strip_bytes``, at the least cost.

    The cost of a pass is the arithmetic of its layers and the bytes of the channels that it reads,
    both for the halo, too, and of those it writes. The cheapest cut is found backwards from the
    last layer.

    Raises:
        ValueError: a layer with one slice does not fit; names the bytes it needs.
    """
    best: list[tuple[float, Pass | None]] = [(0.0, None)] * (network.depth + 1)
    for first in reversed(range(network.depth)):
        choices = []
        for stop in range(first + 1, network.depth + 1):
            step = _plan_pass(network, range(first, stop), space, strip_bytes, like, c_out)
            if step is not None and best[stop][0] < np.inf:
                choices.append((step.cost + best[stop][0], step))
        best[first] = min(choices, key=lambda choice: choice[0], default=(np.inf, None))
    if best[0][1] is None:
        needed = [
            _slice_bytes(network, range(layer, layer + 1), space, like, c_out) * (1 + 2 * dilation)
            for layer, dilation in enumerate(network.dilations)
        ]
        raise ValueError(
            f"the memory limit leaves {max(strip_bytes, 0)} bytes for a strip; layer "
            f"{int(np.argmax(needed))} needs at least {max(needed)}"
        )
    passes: list[Pass] = []
    while (step := best[passes[-1].layers.stop if passes else 0][1]) is not None:
        passes.append(step)
    return passes


def _plan_pass(
    network: Network,
    layers: range,
    space: tuple[int, ...],
    strip_bytes: int,
    like: Tensor,
    c_out: int,
) -> Pass | None:
    """One pass, or None if not even one slice of it fits."""
    halo = sum(network.dilations[layers.start : layers.stop])
    slices = strip_bytes // _slice_bytes(network, layers, space, like, c_out)
    if slices >= space[0]:
        strip, computed = space[0], 1.0
    elif slices > 2 * halo:
        strip = slices - 2 * halo
        computed = slices / strip
    else:
        return None
    num_taps = 3 ** len(space)
    flops = sum(2 * num_taps * network.width * network.channels_before(i) for i in layers)
    read = network.channels_before(layers.start) * like.element_size()
    is_last = layers.stop == network.depth
    written = 0 if is_last else len(layers) * network.width * like.element_size()
    cost = computed * (flops + FLOPS_PER_BYTE * read) + FLOPS_PER_BYTE * written
    return Pass(layers, halo, strip, cost)


def _slice_bytes(
    network: Network, layers: range, space: tuple[int, ...], like: Tensor, c_out: int
) -> int:
    """Memory for a slice of a pass."""
    channels: int = auto_engine(_part(network, layers), space, "zeros", like).slice_bytes
    outputs = 2 * c_out if layers.stop == network.depth else 0
    return channels + outputs * math.prod(space[1:]) * like.element_size()


def _part(network: Network, layers: range) -> Network:
    """Some layers, with all channels in front of them as input."""
    dilations = network.dilations[layers.start : layers.stop]
    return Network(network.channels_before(layers.start), network.width, dilations)


def _strips(num_slices: int, strip_slices: int) -> Iterator[tuple[int, int]]:
    for start in range(0, num_slices, strip_slices):
        yield start, min(start + strip_slices, num_slices)


class _PassRunner:
    """Computes the layers of one pass, strip by strip."""

    def __init__(
        self,
        step: Pass,
        network: Network,
        padding: str,
        store: "_Store",
        weights: Sequence[Tensor],
        bias: Tensor,
    ) -> None:
        layers, width = step.layers, network.width
        self.halo, self.padding, self.store = step.halo, padding, store
        self.part = _part(network, layers)
        self.weights = weights[layers.start : layers.stop]
        self.bias = bias[layers.start * width : layers.stop * width]
        self.space: tuple[int, ...] = ()
        self.high = 0
        self.planes = bias.new_empty(0)

    def run(self, start: int, stop: int) -> None:
        """Compute the channels of slices start..stop-1 and put them into the store."""
        engine, low = self._compute(start, stop)
        new = engine.pixels(self.planes)[self.part.c_in :]
        self.store.write(self.part.c_in, start, new[:, start - low : stop - low])

    def finish(
        self, start: int, stop: int, weight: Tensor, bias: Tensor
    ) -> np.ndarray[Any, np.dtype[Any]]:
        """Compute the network's output for slices start..stop-1, [c_out, slices, ...]."""
        engine, low = self._compute(start, stop)
        output = bias.new_empty(len(bias), *self.space)
        engine.forward_final(self.planes, weight, bias, output)
        return output[:, start - low : stop - low].cpu().numpy()

    def _compute(self, start: int, stop: int) -> tuple[Engine, int]:
        """Fill the planes with a strip and its halo; return their engine and first slice."""
        num_slices, *rest = self.store.space
        low, high = max(start - self.halo, 0), min(stop + self.halo, num_slices)
        space = (high - low, *rest)
        engine = auto_engine(self.part, space, self.padding, self.bias)
        known = 0
        if self.space != space:
            self.planes = self.bias.new_empty(0)  # before there is another of its size
            self.planes, self.space = engine.new_planes(like=self.bias), space
        elif low < self.high:
            known = self.high - low
        channels = engine.pixels(self.planes)[: self.part.c_in]
        for channel in channels if known else ():
            # The halo of the strip before; the engine leaves the channels it reads as they are.
            channel[:known] = channel[-known:].clone()
        self.store.read(low + known, channels[:, known:])
        engine.forward(self.planes, self.weights, self.bias)
        self.high = high
        return engine, low


class _Store:
    """Channels in a file, [slices, C, ...]: those in front of a layer lie together.

    Rows go between the file and tensors without a copy on the way, and no part of the file is
    mapped: that would count as memory of the process.

    Raises:
        OSError: the file does not fit the disk.
    """

    def __init__(self, path: Path, num_channels: int, space: tuple[int, ...], like: Tensor) -> None:
        self.space, self.num_channels = space, num_channels
        self.dtype = torch.empty(0, dtype=like.dtype).numpy().dtype
        self.channel_bytes = math.prod(space[1:]) * self.dtype.itemsize
        self.num_threads = torch.get_num_threads()
        self.threads = ThreadPoolExecutor(self.num_threads)
        self.file = os.open(path, os.O_RDWR | os.O_CREAT)
        # Now, not after hours of work.
        os.posix_fallocate(self.file, 0, space[0] * num_channels * self.channel_bytes)

    def close(self) -> None:
        """Close the file."""
        self.threads.shutdown()
        os.close(self.file)

    def fill(self, input: SlicedArray) -> None:
        """Copy the input [c_in, *space] to the first channels."""
        slice_bytes = self.channel_bytes * input.shape[0]
        for start, stop in _strips(self.space[0], max(1, STAGED_BYTES // slice_bytes)):
            strip = np.ascontiguousarray(input[:, start:stop], dtype=self.dtype)
            self.write(0, start, torch.from_numpy(strip))

    def read(self, start: int, pixels: Tensor) -> None:
        """Fill pixels [C, n, ...] with the first C channels of slices start..start+n-1."""
        for first, part in self._parts(pixels):
            host = part if part.device.type == "cpu" else torch.empty_like(part, device="cpu")
            self._transfer(os.preadv, 0, start + first, host)
            if host is not part:
                part.copy_(host)

    def write(self, channel: int, start: int, pixels: Tensor) -> None:
        """Write pixels [C, n, ...] as channels from ``channel`` on, slices from ``start`` on."""
        for first, part in self._parts(pixels):
            self._transfer(os.pwritev, channel, start + first, part.cpu())

    def _parts(self, pixels: Tensor) -> Iterator[tuple[int, Tensor]]:
        """All of the slices of pixels [C, n, ...]; what is on a device goes through the host."""
        num_slices = pixels.shape[1]
        if pixels.device.type != "cpu":
            num_slices = max(1, STAGED_BYTES // (self.channel_bytes * len(pixels)))
        for first, stop in _strips(pixels.shape[1], num_slices):
            yield first, pixels[:, first:stop]

    def _transfer(
        self, move: Callable[[int, Any, int], int], channel: int, start: int, pixels: Tensor
    ) -> None:
        """Read or write pixels [C, n, ...], row by row, as one run of bytes per slice."""
        rows = pixels.unflatten(1, (-1, 1)) if pixels.ndim == 3 else pixels
        array = rows.numpy()  # [C, n, H, W] or [C, n, 1, W]

        def transfer(indices: range) -> None:
            for index in indices:
                buffers = [row for image in array[:, index] for row in image]
                offset = ((start + index) * self.num_channels + channel) * self.channel_bytes
                for first in range(0, len(buffers), MAX_BUFFERS):
                    some = buffers[first : first + MAX_BUFFERS]
                    expected = sum(buffer.nbytes for buffer in some)
                    if move(self.file, some, offset) != expected:
                        raise OSError(errno.EIO, "the temporary file is cut short")
                    offset += expected

        # The system copies in the thread that asks, without the interpreter's lock.
        share = -(-array.shape[1] // self.num_threads)
        parts = [range(array.shape[1])[i : i + share] for i in range(0, array.shape[1], share)]
        list(self.threads.map(transfer, parts))
