"""Exact inference on images larger than memory, in strips of slices.

The receptive field of a deep network is too wide for tiles with a halo: 550 pixels at depth 100.
But k layers see only the sum of their k dilations. So the channels lie on disk, or in other memory,
and k layers at a time, a pass, are computed strip by strip: read the strip's channels in front with
a halo of that sum, run the layers on them as on a small image, write what the halo has not spoiled.
A strip that touches the image border keeps the image's border rule there. The last pass has all
channels of its strips at hand and applies the final layer to them.

A slice is one index of the first spatial axis: a row in 2D, a plane of rows in 3D.
"""

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from msdtool.ops.checks import check_block, check_final, check_same_kind, layer_dilations
from msdtool.ops.engine import Network
from msdtool.ops.engines import Engine, auto_engine
from msdtool.ops.kept import CHANNELS, Journal, Work, kept_folder, new_work, past_work
from msdtool.ops.passes import Pass, Planner, part_of
from msdtool.ops.plan import WORKSPACE_BYTES
from msdtool.ops.store import STAGED_BYTES, FileStore, Store, TensorStore, ranges

RESERVED_BYTES = WORKSPACE_BYTES + 2 * STAGED_BYTES
BUFFERS = ("disk", "host", "device")


class SlicedArray(Protocol):
    """Reads and writes ranges of its second axis: NumPy, memory-mapped, HDF5 and Zarr arrays."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, key: Any, /) -> Any: ...

    def __setitem__(self, key: Any, value: Any, /) -> None: ...


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
    buffer: str = "disk",
    directory: str | Path | None = None,
    keep: str | Path | None = None,
    save_output: Callable[[], None] | None = None,
    has_output: bool = False,
    tick: Callable[[float], None] = lambda done: None,
) -> None:
    """Run `msd_module` on one image of any size, equal to float rounding.

    Memory, that of the parameters' device, stays below ``memory_bytes`` plus the parameters,
    ``buffer`` and what input and output keep themselves. If the device is not the host, that
    needs some 16 MB besides.

    Args:
        input: [c_in, *space], read as ``input[:, start:stop]``, each range once, in order.
        weights, bias, final_weight, final_bias: as for `msd_module`, float32 or float64; the
            image is computed in their dtype and on their device.
        dilations, padding: as for `msd_module`.
        output: [c_out, *space], written as ``output[:, start:stop]``, each range once, in order.
        memory_bytes: limit; 96 MB of it is workspace.
        buffer: where the channels of the whole image lie, all but those of the last pass: "disk"
            is a temporary file, which the system may keep in memory that is otherwise free;
            "host" the host's memory; "device" that of the parameters' device.
        directory: where the temporary file goes; the system's default if None.
        keep: with buffer "disk", a folder for that file which stays when the work is stopped. A
            call that is the same but for ``memory_bytes`` goes on from there and reads no input.
        save_output: called now and then, to have what was written of output stay, too. Without,
            a call that goes on writes all of output.
        has_output: what an earlier call has written of output did stay.
        tick: called with the share of the work that is done.

    Raises:
        ValueError: an argument does not fit `msd_module`, output has another shape, the buffer is
            none of these, or the memory is too small for one slice and its halo.
        OSError: the temporary file does not fit the disk.
    """
    check_block((1, *input.shape), weights, bias, dilations, padding)
    check_final(input.shape[0] + len(bias), final_weight, final_bias)
    check_same_kind(bias, (final_weight, final_bias, *weights), name="bias")
    if bias.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"parameters have dtype {bias.dtype}; expected float32 or float64")
    if tuple(output.shape) != (len(final_bias), *input.shape[1:]):
        raise ValueError(
            f"output has shape {tuple(output.shape)}; "
            f"expected {(len(final_bias), *input.shape[1:])}"
        )
    space = tuple(input.shape[1:])
    per_layer = layer_dilations(dilations, len(weights), space)
    network = Network(input.shape[0], len(weights[0]), per_layer)
    if buffer not in BUFFERS:
        raise ValueError(f"buffer is {buffer!r}; allowed: {', '.join(BUFFERS)}")
    if keep is not None and buffer != "disk":
        raise ValueError(f"keep is given, which needs buffer 'disk', not {buffer!r}")
    planner = Planner(network, space, memory_bytes - RESERVED_BYTES, bias, len(final_bias))
    folder = None if keep is None else Path(keep)

    def write(runner: _PassRunner, start: int, stop: int) -> None:
        output[:, start:stop] = runner.finish(start, stop, final_weight, final_bias)

    with torch.no_grad(), nullcontext() if folder is None else kept_folder(folder):
        past = None if folder is None else past_work(planner, folder, has_output=has_output)
        work = past or new_work(planner)
        with _open_store(buffer, directory, folder, work, bias, space) as store:
            journal = Journal(folder, store, save_output)
            if past is None:
                journal.begin()
                _fill(store, input, bias.dtype)
            elif not has_output:
                # Before output is saved again: the old note may count slices that are gone.
                journal.note(work.passes[0].layers, work.slices, is_last=False, now=True)
            make_runner = partial(
                _PassRunner, network, space, padding, store=store, weights=weights, bias=bias
            )
            _run_passes(work, space[0], make_runner, write, journal, tick)


def _run_passes(
    work: Work,
    num_slices: int,
    make_runner: Callable[[Pass], "_PassRunner"],
    write: Callable[["_PassRunner", int, int], None],
    journal: Journal,
    tick: Callable[[float], None],
) -> None:
    total = sum(step.cost for step in work.passes) * num_slices
    done, first = work.passes[0].cost * work.slices, work.slices
    for step in work.passes:
        runner, is_last = make_runner(step), step is work.passes[-1]
        for start, stop in ranges(num_slices, step.strip_slices, first):
            if is_last:
                write(runner, start, stop)
            else:
                runner.run(start, stop)
            is_end = stop == num_slices and not is_last
            journal.note(step.layers, stop, is_last=is_last, now=is_end)
            done += step.cost * (stop - start)
            tick(min(done / total, 1.0))
        first = 0


@contextmanager
def _open_store(
    buffer: str,
    directory: str | Path | None,
    keep: Path | None,
    work: Work,
    like: Tensor,
    space: tuple[int, ...],
) -> Iterator[Store]:
    if buffer != "disk":
        device = like.device if buffer == "device" else torch.device("cpu")
        with closing(TensorStore(work.num_channels, space, like, device)) as memory:
            yield memory
        return
    with (
        tempfile.TemporaryDirectory(prefix="msdtool-", dir=directory)
        if keep is None
        else nullcontext(keep) as folder,
        closing(FileStore(Path(folder) / CHANNELS, work.num_channels, space, like)) as file,
    ):
        yield file


def _fill(store: Store, input: SlicedArray, dtype: torch.dtype) -> None:
    """Copy the input [c_in, *space] to the first channels."""
    slice_values = input.shape[0] * math.prod(input.shape[2:])
    length = max(1, STAGED_BYTES // (slice_values * dtype.itemsize))
    for start, stop in ranges(input.shape[1], length):
        store.write(
            0, start, torch.from_numpy(np.ascontiguousarray(input[:, start:stop])).to(dtype)
        )


class _PassRunner:
    """Computes the layers of one pass, strip by strip."""

    def __init__(
        self,
        network: Network,
        space: tuple[int, ...],
        padding: str,
        step: Pass,
        *,
        store: Store,
        weights: Sequence[Tensor],
        bias: Tensor,
    ) -> None:
        layers, width = step.layers, network.width
        self.halo, self.whole, self.padding, self.store = step.halo, space, padding, store
        self.part = part_of(network, layers)
        self.weights = weights[layers.start : layers.stop]
        self.bias = bias[layers.start * width : layers.stop * width]
        self.strip: tuple[int, ...] = ()
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
        output = bias.new_empty(len(bias), *self.strip)
        engine.forward_final(self.planes, weight, bias, output)
        return output[:, start - low : stop - low].cpu().numpy()

    def _compute(self, start: int, stop: int) -> tuple[Engine, int]:
        """Fill the planes with a strip and its halo; return their engine and first slice."""
        num_slices, *rest = self.whole
        low, high = max(start - self.halo, 0), min(stop + self.halo, num_slices)
        space = (high - low, *rest)
        engine = auto_engine(self.part, space, self.padding, self.bias)
        known = 0
        if self.strip != space:
            self.planes = self.bias.new_empty(0)  # before there is another of its size
            self.planes, self.strip = engine.new_planes(like=self.bias), space
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
