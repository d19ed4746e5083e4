"""The kernels that a step launches for its last block of layers, which reads the most channels."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from msdtool.bench.cases import BYTES_PER_VALUE, Case
from msdtool.nn.msd import DILATIONS
from msdtool.ops.cuda import convolution
from msdtool.ops.cuda.fused import FusedEngine
from msdtool.ops.cuda.product import ProductEngine
from msdtool.ops.engine import BlockShape


@dataclass(frozen=True)
class Kernel:
    """A call that launches one kernel, and the least work it has to do.

    Attributes:
        name: of the kernel or product.
        start: launches it.
        num_bytes: the least that must be read and written.
        flops: multiplications and additions.
    """

    name: str
    start: Callable[[], object]
    num_bytes: int
    flops: int


def kernels_of(case: Case, device: torch.device) -> list[Kernel]:
    """Return the kernels of the last block, in the order of a step."""
    block = _LastBlock(case, device)
    return [
        block.forward_product(),
        block.gather(),
        block.fused(),
        block.forward(block.num_read),
        block.forward(0),
        block.backward_input(block.num_read),
        block.backward_input(0),
        block.backward_weight(),
        block.spread(),
        *block.backward_products(),
    ]


def _bytes(*values: int) -> int:
    return BYTES_PER_VALUE * sum(values)


class _LastBlock:
    """The tensors of a case's last block of layers.

    Products and taps run on the first strip of pixels, convolutions on all pixels for the block's
    last layer: of all channels before it, or of those within the block.

    Attributes:
        num_read: channels before the block, which all of its layers read.
        front: channels before the block's last layer.
    """

    def __init__(self, case: Case, device: torch.device) -> None:
        dilations = tuple(DILATIONS[layer % len(DILATIONS)] for layer in range(case.depth))
        shape = BlockShape(case.c_in, case.width, dilations, case.padding, case.batch, case.space)
        self.case = case
        self.planes = torch.rand(case.channels, case.pixels, device=device)
        self.grads = torch.zeros_like(self.planes)
        self.engine = ProductEngine(shape, self.planes)
        self.block = self.engine.blocks()[-1]
        self.first, self.stop = next(self.engine.strips())
        self.num_read, last = shape.channels_before(self.block.start), self.block[-1]
        self.channels, self.front = shape.channels(self.block), shape.channels_before(last)
        self.num_outputs = self.channels.stop - self.channels.start
        self.num_pixels = (self.stop - self.first) * shape.slice_size
        self.taps = self.planes.new_empty(self.num_outputs * shape.num_taps, self.num_pixels)
        self.rows = self.planes.new_ones(len(self.taps), self.num_read)
        self.weight = self.planes.new_ones(case.width, self.front, *(3,) * case.ndim)
        self.bias = self.planes.new_zeros(self.num_outputs)
        self.geometry = self.engine.geometry(last)
        outputs = shape.channels(range(last, last + 1))
        self.output = self.engine.images(self.planes[outputs])
        self.upstream = self.engine.images(self.grads[outputs])
        self.product_flops = 2 * len(self.taps) * self.num_read * self.num_pixels
        self.flops_per_channel = 2 * shape.num_taps * case.width * case.pixels

    def forward_product(self) -> Kernel:
        strip = self.planes[: self.num_read, : self.num_pixels]
        return Kernel(
            "forward product",
            lambda: torch.mm(self.rows, strip, out=self.taps),
            _bytes(strip.numel(), self.taps.numel()),
            self.product_flops,
        )

    def gather(self) -> Kernel:
        targets = self.planes[self.channels]
        return Kernel(
            "taps_gather",
            lambda: self.engine.gather(
                self.taps, self.bias, self.block, targets, self.first, self.stop
            ),
            _bytes(self.taps.numel(), self.num_outputs * self.num_pixels),
            self.taps.numel(),
        )

    def fused(self) -> Kernel:
        """The product and the gathering of its taps in one kernel, where it serves the shape."""
        fused, stack = FusedEngine(self.engine.shape, self.planes), torch.empty_like(self.taps)
        return Kernel(
            "fused_forward or both",
            lambda: fused.convolve_front(self.planes, self.rows, self.bias, self.block, stack),
            _bytes((self.num_read + self.num_outputs) * self.case.pixels),
            2 * len(self.taps) * self.num_read * self.case.pixels,
        )

    def forward(self, first: int) -> Kernel:
        sources, weight = self._read_from(first, self.planes)
        return self._convolution(
            "forward",
            lambda: convolution.forward(
                sources, weight, None, self.output, self.geometry, relu=True
            ),
            first,
        )

    def backward_input(self, first: int) -> Kernel:
        targets, weight = self._read_from(first, self.grads)
        return self._convolution(
            "backward_input",
            lambda: convolution.backward_input(
                weight, self.output, self.upstream, targets, self.geometry
            ),
            first,
            passes=2,
        )

    def backward_weight(self) -> Kernel:
        sources, weight = self._read_from(0, self.planes)
        return self._convolution(
            "backward_weight",
            lambda: convolution.backward_weight(
                sources, weight.shape, self.output, self.upstream, self.geometry
            ),
            0,
        )

    def spread(self) -> Kernel:
        return Kernel(
            "taps_spread",
            lambda: self.engine.spread(
                self.grads, self.planes, self.block, self.taps, self.first, self.stop
            ),
            _bytes(self.taps.numel(), 2 * self.num_outputs * self.num_pixels),
            self.taps.numel(),
        )

    def backward_products(self) -> list[Kernel]:
        sources = self.planes[: self.num_read, : self.num_pixels]
        targets = self.grads[: self.num_read, : self.num_pixels]
        return [
            Kernel(
                "backward product by the channels",
                lambda: targets.addmm_(self.rows.t(), self.taps),
                _bytes(2 * targets.numel(), self.taps.numel()),
                self.product_flops,
            ),
            Kernel(
                "backward product by the weights",
                lambda: torch.mm(self.taps, sources.t()),
                _bytes(sources.numel(), self.taps.numel()),
                self.product_flops,
            ),
        ]

    def _read_from(self, first: int, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Channels from ``first`` on before the last layer, and their weights."""
        return self.engine.images(planes[first : self.front]), self.weight[:, first:]

    def _convolution(
        self, name: str, start: Callable[[], object], first: int, passes: int = 1
    ) -> Kernel:
        """A convolution that passes over the channels from ``first`` on once or twice."""
        count = self.front - first
        return Kernel(
            f"convolution_{name}, {count} channels",
            start,
            _bytes((passes * count + 2 * self.case.width) * self.case.pixels),
            self.flops_per_channel * count,
        )
