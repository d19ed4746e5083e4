"""The independent source of numbers for one convolution: tap by tap, with gathered pixels."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from msdtool.nn import conv_relu2dInPlace
from tests.ops.formula import shifted


@dataclass
class Case:
    """Arguments of an in-place convolution, output aside."""

    input: Tensor
    weight: Tensor
    bias: Tensor
    stride: int = 1
    dilation: int = 1
    impl: str = "auto"

    def leaves(self) -> list[Tensor]:
        return [self.input, self.weight, self.bias]

    def new_output(self) -> Tensor:
        batch, _, height, width = self.input.shape
        rows, columns = -(-height // self.stride), -(-width // self.stride)
        return self.input.new_full((batch, len(self.bias), rows, columns), torch.nan)

    def run(self, convolve: Callable[..., Tensor], output: Tensor | None = None) -> Tensor:
        output = self.new_output() if output is None else output
        return convolve(
            self.input, self.weight, self.bias, output, self.stride, self.dilation, self.impl
        )

    def formula(self, convolve: Callable[..., Tensor]) -> Tensor:
        """The same, tap by tap with gathered pixels, differentiated by autograd."""
        reach = range(-(self.weight.shape[2] // 2), self.weight.shape[2] // 2 + 1)
        total = self.bias.view(1, -1, 1, 1)
        for p, q in itertools.product(reach, repeat=2):
            shifts = (self.dilation * p, self.dilation * q)
            matrix = self.weight[:, :, p - reach[0], q - reach[0]]
            pixels = shifted(self.input, shifts, "symmetric")
            total = total + torch.einsum("oj,bjyx->boyx", matrix, pixels)
        total = total[:, :, :: self.stride, :: self.stride]
        return total.clamp(min=0) if convolve is conv_relu2dInPlace else total


def make_case(
    shape: tuple[int, ...] = (2, 3, 6, 7),
    c_out: int = 2,
    kernel_size: int = 3,
    seed: int = 0,
    **steps: int,
) -> Case:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        values = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return values.requires_grad_()

    weight = draw(c_out, shape[1], kernel_size, kernel_size)
    return Case(draw(*shape), weight, draw(c_out), **steps)
