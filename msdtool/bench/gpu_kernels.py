"""Each kernel and product of a training step alone: time, and share of the GPU's limit.

On the last block of layers, the one that reads most. Bytes are what has to be read and written at
least, FLOP what is multiplied and added.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from msdtool.bench.cases import BYTES_PER_VALUE, Case
from msdtool.bench.machine import synchronizer
from msdtool.bench.timing import bench
from msdtool.nn.msd import DILATIONS
from msdtool.ops import convolution
from msdtool.ops.cuda_engine import ProductEngine
from msdtool.ops.fused import FusedEngine
from msdtool.ops.plain_engine import Shape


@dataclass(frozen=True)
class Kernel:
    """A call that starts one kernel, and what that has to do at least."""

    name: str
    start: Callable[[], object]
    num_bytes: int
    flops: int


@dataclass(frozen=True)
class KernelRow:
    """What a kernel reached.

    Attributes:
        seconds: median time.
        limit_share: the least time by counts, from the GPU's measured copy and sgemm, over the
            time taken.
    """

    name: str
    seconds: float
    gb_per_second: float
    tflops: float
    limit_share: float


def measure_kernels(
    case: Case,
    device: torch.device,
    flops_per_second: float,
    bytes_per_second: float,
    seconds: float = 0.2,
) -> Iterator[KernelRow]:
    """Time the kernels of a case one by one."""
    for kernel in kernels_of(case, device):
        timed = bench(
            kernel.name, kernel.start, seconds=seconds, synchronize=synchronizer(device)
        ).median
        least = max(kernel.flops / flops_per_second, kernel.num_bytes / bytes_per_second)
        yield KernelRow(
            kernel.name,
            timed,
            kernel.num_bytes / timed / 1e9,
            kernel.flops / timed / 1e12,
            least / timed,
        )


def kernels_of(case: Case, device: torch.device) -> list[Kernel]:
    """The kernels that a step of a case launches for its last block of layers."""
    dilations = tuple(DILATIONS[layer % len(DILATIONS)] for layer in range(case.depth))
    shape = Shape(case.c_in, case.width, dilations, case.padding, case.batch, case.space)
    planes = torch.rand(case.channels, case.pixels, device=device)
    grads = torch.zeros_like(planes)
    engine, fused = ProductEngine(shape, planes), FusedEngine(shape, planes)
    block = engine.blocks()[-1]
    first, stop = next(engine.strips())
    m, last = shape.channels_before(block.start), block[-1]
    channels, front = shape.channels(block), shape.channels_before(last)
    num_outputs = channels.stop - channels.start
    num_pixels = (stop - first) * shape.slice_size
    strip = planes[:, :num_pixels]
    taps = planes.new_empty(num_outputs * shape.num_taps, num_pixels)
    rows, stack = planes.new_ones(len(taps), m), torch.empty_like(taps)
    weight = planes.new_ones(case.width, front, *(3,) * case.ndim)
    bias = planes.new_zeros(num_outputs)
    output = planes[shape.channels(range(last, last + 1))]
    images, geometry = engine.images, shape.geometry(last)

    def convolve(first_channel: int) -> Callable[[], object]:
        sources, part = images(planes[first_channel:front]), weight[:, first_channel:]
        return lambda: convolution.forward(sources, part, None, images(output), geometry, relu=True)

    def backward_input(first_channel: int) -> Callable[[], object]:
        targets, part = images(grads[first_channel:front]), weight[:, first_channel:]
        upstream = images(grads[shape.channels(range(last, last + 1))])
        return lambda: convolution.backward_input(part, images(output), upstream, targets, geometry)

    def backward_weight() -> object:
        upstream = images(grads[shape.channels(range(last, last + 1))])
        return convolution.backward_weight(
            images(planes[:front]), weight.shape, images(output), upstream, geometry
        )

    product = 2 * len(taps) * m * num_pixels
    per_channel = 2 * shape.num_taps * case.width * case.pixels
    inner = front - m

    def bytes_of(*values: int) -> int:
        return BYTES_PER_VALUE * sum(values)

    return [
        Kernel(
            "forward product",
            lambda: torch.mm(rows, strip[:m], out=taps),
            bytes_of(m * num_pixels, taps.numel()),
            product,
        ),
        Kernel(
            "taps_gather",
            lambda: engine.gather(taps, bias, block, planes[channels], first, stop),
            bytes_of(taps.numel(), num_outputs * num_pixels),
            taps.numel(),
        ),
        Kernel(
            "fused_forward or both",
            lambda: fused.convolve_front(planes, rows, bias, block, stack),
            bytes_of((m + num_outputs) * case.pixels),
            2 * len(taps) * m * case.pixels,
        ),
        Kernel(
            f"convolution_forward, {inner} channels",
            convolve(m),
            bytes_of((inner + 2 * case.width) * case.pixels),
            per_channel * inner,
        ),
        Kernel(
            f"convolution_forward, {front} channels",
            convolve(0),
            bytes_of((front + 2 * case.width) * case.pixels),
            per_channel * front,
        ),
        Kernel(
            f"convolution_backward_input, {inner} channels",
            backward_input(m),
            bytes_of((2 * inner + 2 * case.width) * case.pixels),
            per_channel * inner,
        ),
        Kernel(
            f"convolution_backward_input, {front} channels",
            backward_input(0),
            bytes_of((2 * front + 2 * case.width) * case.pixels),
            per_channel * front,
        ),
        Kernel(
            f"convolution_backward_weight, {front} channels",
            backward_weight,
            bytes_of((front + 2 * case.width) * case.pixels),
            per_channel * front,
        ),
        Kernel(
            "taps_spread",
            lambda: engine.spread(grads, planes, block, taps, first, stop),
            bytes_of(taps.numel(), 2 * num_outputs * num_pixels),
            taps.numel(),
        ),
        Kernel(
            "backward product by the channels",
            lambda: grads[:m, :num_pixels].addmm_(rows.t(), taps),
            bytes_of(2 * m * num_pixels, taps.numel()),
            product,
        ),
        Kernel(
            "backward product by the weights",
            lambda: torch.mm(taps, strip[:m].t()),
            bytes_of(m * num_pixels, taps.numel()),
            product,
        ),
    ]


def table(rows: list[KernelRow]) -> str:
    """The rows as lines of text."""
    width = max(len(row.name) for row in rows)
    head = f"{'kernel':<{width}}  {'ms':>9}  {'GB/s':>7}  {'TFLOP/s':>7}  {'of limit':>8}"
    lines = [
        f"{row.name:<{width}}  {1e3 * row.seconds:9.4f}  {row.gb_per_second:7.0f}  "
        f"{row.tflops:7.2f}  {row.limit_share:8.1%}"
        for row in rows
    ]
    return "\n".join([head, *lines])
