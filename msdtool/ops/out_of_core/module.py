"""Exact inference on images larger than memory, in strips of slices.

The receptive field of a deep network is too wide for tiles with a halo: 550 pixels at depth 100.
But k layers see only the sum of their k dilations. So the channels lie on disk, or in other memory,
and k layers at a time, a pass, are computed strip by strip: read the channels before these layers
for the strip and a halo of that sum, run the layers on them as on a small image, write the strip
without the halo. A strip that touches the image border keeps the image's border rule there. The
last pass has all channels of its strips at hand and applies the final layer to them.

The engine is the one that `msd_module` uses for the device.

A slice is one index of the first spatial axis: a row in 2D, a plane of rows in 3D.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from msdtool.ops.checks import check_block, check_final, check_same_kind
from msdtool.ops.engine import WORKSPACE_BYTES, BlockShape, Engine, Parameters, shape_of
from msdtool.ops.engines import new_engine
from msdtool.ops.out_of_core.planner import Pass, Planner
from msdtool.ops.out_of_core.resuming import Computation, Resume, open_computation
from msdtool.ops.out_of_core.store import STAGED_BYTES, Store, ranges
from msdtool.progress import Progress, no_progress

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
    resume: Resume | None = None,
    progress: Progress = no_progress,
) -> None:
    """Run `msd_module` on one image of any size, equal to float rounding.

    Memory of the parameters' device stays below ``memory_bytes`` plus the parameters, ``buffer``
    and what input and output keep themselves. If the device is not the host, the host needs some
    16 MB as well.

    Args:
        input: [c_in, *space], read as ``input[:, start:stop]``, each range once, in order.
        weights, bias, final_weight, final_bias: as for `msd_module`, float32 or float64; the
            image is computed in their dtype and on their device.
        dilations, padding: as for `msd_module`.
        output: [c_out, *space], written as ``output[:, start:stop]``, each range once, in order.
        memory_bytes: limit; 84 MB of it (`RESERVED_BYTES`) are workspace.
        buffer: where the channels of the whole image lie, all but those of the last pass: "disk"
            is a temporary file, which the system may keep in memory that is otherwise free;
            "host" the host's memory; "device" that of the parameters' device.
        directory: where the temporary file goes; the system's default if None.
        resume: with buffer "disk", keeps the channels when the work is stopped. A call that is the
            same but for ``memory_bytes`` resumes from there and reads no input.
        progress: called with the floating-point operations that are done and those of all the
            work that this call does.

    Raises:
        ValueError: an argument does not fit `msd_module`, output has another shape or the buffer is
            not one of these.
        DoesNotFit: the memory is too small for one slice and its halo.
        OSError: the temporary file does not fit the disk.
    """
    check_block((1, *input.shape), weights, bias, dilations, padding)
    check_final(input.shape[0] + len(bias), final_weight, final_bias)
    parameters = Parameters(weights, bias, final_weight, final_bias)
    _check_streamed(parameters, input.shape, output.shape, buffer, resume)
    network = shape_of((1, *input.shape), parameters, dilations, padding)
    planner = Planner(network, memory_bytes - RESERVED_BYTES, bias, len(final_bias))

    def write(runner: _PassRunner, start: int, stop: int) -> None:
        output[:, start:stop] = runner.finish(start, stop)

    with torch.no_grad(), open_computation(planner, buffer, directory, resume) as computation:
        if computation.is_new:
            _fill(computation.store, input, bias.dtype)
        make_runner = partial(_PassRunner, network, parameters, computation.store)
        _run_passes(computation, network.space[0], make_runner, write, progress)


def _check_streamed(
    parameters: Parameters,
    input_shape: Sequence[int],
    output_shape: Sequence[int],
    buffer: str,
    resume: Resume | None,
) -> None:
    """Raise ValueError for what `msd_module` allows but not `msd_module_streamed`."""
    _, bias, _, final_bias = parameters
    assert final_bias is not None
    check_same_kind(bias, parameters.tensors(), name="bias")
    if bias.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"parameters have dtype {bias.dtype}; expected float32 or float64")
    expected = (len(final_bias), *input_shape[1:])
    if tuple(output_shape) != expected:
        raise ValueError(f"output has shape {tuple(output_shape)}; expected {expected}")
    if buffer not in BUFFERS:
        raise ValueError(f"buffer is {buffer!r}; allowed: {', '.join(BUFFERS)}")
    if resume is not None and buffer != "disk":
        raise ValueError(f"resume is given, which needs buffer 'disk', not {buffer!r}")


def _run_passes(
    computation: Computation,
    num_slices: int,
    make_runner: Callable[[Pass], "_PassRunner"],
    write: Callable[["_PassRunner", int, int], None],
    progress: Progress,
) -> None:
    work = computation.work
    total = sum(step.cost for step in work.passes) * num_slices
    done, first = work.passes[0].cost * work.slices, work.slices
    for step in work.passes:
        runner, is_last = make_runner(step), step is work.passes[-1]
        for start, stop in ranges(num_slices, step.strip_slices, first):
            if is_last:
                write(runner, start, stop)
            else:
                runner.run(start, stop)
            computation.save(step.layers, stop, now=stop == num_slices and not is_last)
            done += step.cost * (stop - start)
            progress(min(done, total), total)
        first = 0


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
        self, network: BlockShape, parameters: Parameters, store: Store, step: Pass
    ) -> None:
        layers = step.layers
        self.halo, self.store, self.part = step.halo, store, network.part(layers)
        self.parameters = parameters._replace(
            weights=parameters.weights[layers.start : layers.stop],
            bias=parameters.bias[network.outputs(layers)],
        )
        self.like = parameters.bias
        self.engine: Engine | None = None
        self.planes = self.like.new_empty(0)
        self.high = 0

    def run(self, start: int, stop: int) -> None:
        """Compute the channels of slices start..stop-1 and put them into the store."""
        engine, low = self._compute(start, stop)
        new = engine.images(self.planes)[0, self.part.c_in :]
        self.store.write(self.part.c_in, start, new[:, start - low : stop - low])

    def finish(self, start: int, stop: int) -> np.ndarray[Any, np.dtype[Any]]:
        """Compute the network's output for slices start..stop-1, [c_out, slices, ...]."""
        engine, low = self._compute(start, stop)
        bias = self.parameters.final_bias
        assert bias is not None
        output = bias.new_empty(1, len(bias), *engine.shape.space)
        engine.forward_final(self.planes, self.parameters, output)
        return output[0, :, start - low : stop - low].cpu().numpy()

    def _compute(self, start: int, stop: int) -> tuple[Engine, int]:
        """Fill the planes with a strip and its halo; return their engine and first slice."""
        num_slices, *rest = self.part.space
        low, high = max(start - self.halo, 0), min(stop + self.halo, num_slices)
        space = (high - low, *rest)
        engine, known = self.engine, 0
        if engine is None or engine.shape.space != space:
            self.planes = self.like.new_empty(0)  # before there is another of its size
            self.engine = engine = new_engine(replace(self.part, space=space), self.like)
            self.planes = engine.new_planes(self.like)
        elif low < self.high:
            known = self.high - low
        channels = engine.images(self.planes)[0, : self.part.c_in]
        for channel in channels if known else ():
            # The halo of the previous strip; the engine leaves the channels it reads as they are.
            channel[:known] = channel[-known:].clone()
        self.store.read(low + known, channels[:, known:])
        engine.forward(self.planes, self.parameters)
        self.high = high
        return engine, low
