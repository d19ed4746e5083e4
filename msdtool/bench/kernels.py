"""The kernels that a step launches for its last block of layers, which reads the most channels."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from msdtool.bench.cases import BYTES_PER_VALUE, Case
from msdtool.nn.msd import DILATIONS
from msdtool.ops.cuda import convolution
from msdtool.ops.cuda.back import back_of
from msdtool.ops.cuda.front import FrontEngine
from msdtool.ops.cuda.product import ProductEngine, multiply
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
        *block.tensor_cores(),
        block.inner_forward(),
        block.forward(),
        block.inner_backward(),
        block.backward_input(),
        block.backward_weight(),
        block.spread(),
        *block.backward_products(),
    ]


def _bytes(*values: int) -> int:
    return BYTES_PER_VALUE * sum(values)


class _LastBlock:
    """The tensors of a case's last block of layers.

    Products and taps run on the first strip of pixels, the block's last layer on all pixels: the
    channels within the block by the kernels that a step launches, all channels by those of
    "cuda-plain".

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
        self.geometry, self.dilation = self.engine.geometry(last), shape.dilations[last]
        self.outputs = shape.channels(range(last, last + 1))
        self.output = self.engine.images(self.planes[self.outputs])
        self.upstream = self.engine.images(self.grads[self.outputs])
        self.product_flops = 2 * len(self.taps) * self.num_read * self.num_pixels
        self.flops_per_channel = 2 * shape.num_taps * case.width * case.pixels

    def forward_product(self) -> Kernel:
        strip = self.planes[: self.num_read, : self.num_pixels]
        return Kernel(
            "forward product",
            lambda: multiply(self.rows, strip, self.taps),
            _bytes(strip.numel(), self.taps.numel()),
            self.product_flops,
        )

    def gather(self) -> Kernel:
        targets = self.planes[self.channels]
        return Kernel(
            "taps_gather",
            lambda: self.engine.taps.gather(
                self.taps, self.bias, self.block, targets, self.first, self.stop
            ),
            _bytes(self.taps.numel(), self.num_outputs * self.num_pixels),
            self.taps.numel(),
        )

    def tensor_cores(self) -> list[Kernel]:
        """The kernels that replace the products and the stack of their taps, where they serve the
        shape."""
        shape, case = self.engine.shape, self.case
        engine = FrontEngine(shape, self.planes)
        if engine.source is None:
            return []
        planes, grads = engine.new_planes(self.planes).zero_(), engine.new_planes(self.planes)
        blocks = tuple(engine.blocks())
        block = blocks[-1]
        sizes = [(shape.width, shape.channels_before(layer)) for layer in range(case.depth)]
        weights = [planes.new_ones(*size, *(3,) * case.ndim) for size in sizes]
        workspace = engine.new_workspace(planes, weights)
        read, own = shape.channels_before(block.start), shape.channels(block)
        sums, deltas, sources = planes[own], grads.zero_()[own], grads[:read]
        bias, dilations = planes.new_zeros(len(sums)), engine.taps.dilations_of(block)
        back = back_of(engine.layout, blocks, engine.dtype, engine.terms, engine.device)
        packed, parts = back.pack(weights, 0), back.new_parts(block)
        last = shape.channels_before(block[-1])
        flops = 2 * len(sums) * shape.num_taps * case.pixels
        return [
            Kernel(
                "front_forward",
                lambda: engine.convolve_front(planes, weights, bias, sums, block, workspace),
                _bytes((read + len(sums)) * case.pixels),
                flops * read,
            ),
            Kernel(
                "back_input",
                lambda: back.add_to_input(deltas, dilations, block, packed, sources),
                _bytes((2 * read + len(sums)) * case.pixels),
                flops * read,
            ),
            Kernel(
                "back_weight",
                lambda: back.add_to_weights(planes, deltas, dilations, block, parts),
                _bytes((last + len(sums)) * case.pixels),
                flops * last,
            ),
        ]

    def inner_forward(self) -> Kernel:
        sources, output = self.planes[self.num_read : self.front], self.planes[self.outputs]
        weight = self.weight[:, self.num_read :]
        return self._layer(
            "inner_forward",
            lambda: self.engine.inner.forward(sources, weight, output, output, self.dilation),
            self.num_read,
        )

    def inner_backward(self) -> Kernel:
        width = self.case.width
        last_before = self.planes[self.outputs.start - width : self.outputs.start]
        deltas, targets = self.grads[self.outputs], self.grads[self.num_read : self.front]
        weight = self.weight[:, self.num_read :]
        return self._layer(
            "inner_backward",
            lambda: self.engine.inner.backward(weight, deltas, targets, last_before, self.dilation),
            self.num_read,
            passes=2,
        )

    def forward(self) -> Kernel:
        sources = self.engine.images(self.planes[: self.front])
        return self._layer(
            "convolution_forward",
            lambda: convolution.forward(
                sources, self.weight, None, self.output, self.geometry, relu=True
            ),
        )

    def backward_input(self) -> Kernel:
        targets = self.engine.images(self.grads[: self.front])
        return self._layer(
            "convolution_backward_input",
            lambda: convolution.backward_input(
                self.weight, self.output, self.upstream, targets, self.geometry
            ),
            passes=2,
        )

    def backward_weight(self) -> Kernel:
        sources = self.engine.images(self.planes[: self.front])
        return self._layer(
            "convolution_backward_weight",
            lambda: convolution.backward_weight(
                sources, self.weight.shape, self.output, self.upstream, self.geometry
            ),
        )

    def spread(self) -> Kernel:
        return Kernel(
            "taps_spread",
            lambda: self.engine.taps.spread(
                self.grads[self.channels], self.block, self.taps, self.first, self.stop
            ),
            _bytes(self.taps.numel(), self.num_outputs * self.num_pixels),
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

    def _layer(
        self, name: str, start: Callable[[], object], first: int = 0, passes: int = 1
    ) -> Kernel:
        """A layer that passes over the channels from ``first`` on once or twice."""
        count = self.front - first
        return Kernel(
            f"{name}, {count} channels",
            start,
            _bytes((passes * count + 2 * self.case.width) * self.case.pixels),
            self.flops_per_channel * count,
        )
