"""The independent source of numbers: the MSD formula, tap by tap, with gathered pixels.

    Y_o(x) = relu(b_o + sum_{j < m_i} sum_t W_i[o, j, t] * Y_j(rho(x + s_i * t)))

Slow, in the dtype it is given (float64 in the tests), differentiable by autograd.
"""

import itertools
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from msdtool.border import PADDINGS


def mirrored_index(position: int, size: int, padding: str) -> int | None:
    """The border rule rho along one axis; None outside a zero-padded image."""
    if 0 <= position < size:
        return position
    if padding == "zeros":
        return None
    if padding == "symmetric":
        return -1 - position if position < 0 else 2 * size - 1 - position
    return -position if position < 0 else 2 * size - 2 - position


def shifted(image: Tensor, shifts: tuple[int, ...], padding: str) -> Tensor:
    """The image [B, C, *space] at rho(x + shift), for every pixel x."""
    for axis, shift in enumerate(shifts, start=2):
        size = image.shape[axis]
        sources = [mirrored_index(x + shift, size, padding) for x in range(size)]
        inside = torch.tensor([source is not None for source in sources])
        image = image.index_select(axis, torch.tensor([source or 0 for source in sources]))
        image = image * inside.view([-1 if a == axis else 1 for a in range(image.dim())])
    return image


@dataclass
class Problem:
    """Arguments of `msd_module` and `msd_block`."""

    input: Tensor
    weights: list[Tensor]
    bias: Tensor
    final_weight: Tensor
    final_bias: Tensor
    dilations: list[int]
    padding: str

    def leaves(self) -> list[Tensor]:
        return [self.input, self.bias, self.final_weight, self.final_bias, *self.weights]

    def to(self, dtype: torch.dtype) -> "Problem":
        """A copy with fresh leaves of another dtype."""

        def copy(tensor: Tensor) -> Tensor:
            return tensor.detach().to(dtype).requires_grad_()

        return Problem(
            copy(self.input),
            [copy(weight) for weight in self.weights],
            copy(self.bias),
            copy(self.final_weight),
            copy(self.final_bias),
            self.dilations,
            self.padding,
        )

    def block_arguments(self) -> tuple:
        return self.input, self.weights, self.bias, self.dilations, self.padding

    def module_arguments(self) -> tuple:
        return (
            self.input, self.weights, self.bias, self.final_weight, self.final_bias,
            self.dilations, self.padding,
        )  # fmt: skip


def make_problem(
    space: tuple[int, ...],
    depth: int = 5,
    *,
    width: int = 1,
    c_in: int = 1,
    c_out: int = 1,
    batch: int = 1,
    dilations: tuple[int, ...] = (1, 2, 3),
    padding: str = "symmetric",
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Problem:
    """Random arguments whose activations neither die nor explode."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    num_taps = 3 ** len(space)
    num_channels = c_in + width * depth
    weights = [
        draw(width, c_in + width * layer, *(3,) * len(space)) * (2 / num_taps / num_channels) ** 0.5
        for layer in range(depth)
    ]
    return Problem(
        draw(batch, c_in, *space),
        weights,
        0.3 * draw(width * depth),
        draw(c_out, num_channels, 1),
        draw(c_out),
        list(dilations),
        padding,
    ).to(dtype)


@st.composite
def problems(draw: st.DrawFn, largest: tuple[int, int], max_batch: int) -> Problem:
    """Networks on images of 2 to 3 axes, with dilations up to what the border rule allows.

    Args:
        draw: of Hypothesis.
        largest: pixels on a side, of images in 2D and in 3D.
        max_batch: images.
    """
    num_axes = draw(st.sampled_from((2, 2, 3)))
    space = tuple(draw(st.integers(2, largest[num_axes - 2])) for _ in range(num_axes))
    padding = draw(st.sampled_from(PADDINGS))
    limit = {"symmetric": min(space), "reflect": min(space) - 1, "zeros": max(space) + 2}[padding]
    return make_problem(
        space,
        draw(st.integers(1, 10)),
        width=draw(st.integers(1, 3)),
        c_in=draw(st.integers(1, 3)),
        c_out=draw(st.integers(1, 3)),
        batch=draw(st.integers(1, max_batch)),
        dilations=tuple(draw(st.lists(st.integers(1, limit), min_size=1, max_size=4))),
        padding=padding,
        seed=draw(st.integers(0, 1000)),
    )


def block_formula(problem: Problem) -> Tensor:
    """The block's channels [B, c_in + width*depth, *space]."""
    channels = problem.input
    width = problem.weights[0].shape[0]
    num_axes = problem.input.dim() - 2
    for layer, weight in enumerate(problem.weights):
        dilation = problem.dilations[layer % len(problem.dilations)]
        bias = problem.bias[layer * width : (layer + 1) * width]
        total = bias.view(1, -1, *(1,) * num_axes)
        for tap in itertools.product((-1, 0, 1), repeat=num_axes):
            sources = shifted(channels, tuple(dilation * t for t in tap), problem.padding)
            matrix = weight[(slice(None), slice(None), *(t + 1 for t in tap))]
            total = total + torch.einsum("oj,bj...->bo...", matrix, sources)
        channels = torch.cat([channels, total.clamp(min=0)], dim=1)
    return channels


def module_formula(problem: Problem) -> Tensor:
    """The final layer's output [B, c_out, *space]."""
    channels = block_formula(problem)
    output = torch.einsum("ojk,bj...->bo...", problem.final_weight, channels)
    return output + problem.final_bias.view(1, -1, *(1,) * (channels.dim() - 2))


def largest_difference(actual: Tensor, expected: Tensor) -> float:
    """Relative to the largest expected value."""
    assert actual.shape == expected.shape
    scale = expected.abs().max().clamp(min=1e-30)
    return ((actual.double() - expected).abs().max() / scale).item()
