"""Semifield convolutions whose sum is one of its terms: the winner is recorded.

The backward pass then visits one term per output value, regardless of the number of terms.
"""

import math
import operator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from msdtool.ops.semifield.geometry import Geometry
from msdtool.ops.semifield.operations import Binary, SelectOperations
from msdtool.ops.semifield.tiles import Tile, split_groups, terms, tiles

# torch's own functions for the winner's value, an order of magnitude faster than `torch.where`.
CHOICES: dict[Any, Binary] = {operator.lt: torch.maximum, operator.gt: torch.minimum}


def select_by_terms(
    img: Tensor, kernel: Tensor, semifield: SelectOperations, geometry: Geometry
) -> Tensor:
    """Compute `select_conv` in plain torch, term by term."""
    if torch.is_grad_enabled() and (img.requires_grad or kernel.requires_grad):
        output: Tensor = SelectByTerms.apply(img, kernel, semifield, geometry)
        return output
    return _forward(img, kernel, semifield, geometry, None)


def index_dtype(num_terms: int) -> torch.dtype:
    """Return the smallest dtype that can number the terms from 1; 0 means none."""
    for dtype in (torch.uint8, torch.int16):
        if num_terms <= torch.iinfo(dtype).max:
            return dtype
    return torch.int32


class SelectByTerms(torch.autograd.Function):
    """The autograd function of `select_by_terms`; it can be differentiated once."""

    @staticmethod
    def forward(
        ctx: Any, img: Tensor, kernel: Tensor, semifield: SelectOperations, geometry: Geometry
    ) -> Tensor:
        winners = torch.zeros(
            (len(img), geometry.groups, geometry.out_channels, *geometry.out_space),
            dtype=index_dtype(geometry.num_terms),
            device=img.device,
        )
        output = _forward(img, kernel, semifield, geometry, winners)
        ctx.semifield, ctx.geometry = semifield, geometry
        ctx.save_for_backward(img, kernel, winners)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        img, kernel, winners = ctx.saved_tensors
        needs_img, needs_kernel = ctx.needs_input_grad[:2]
        backward = _SelectBackward(img, kernel, ctx.semifield, ctx.geometry)
        grad_output = grad_output.reshape(winners.shape)
        for tile in tiles(img, ctx.geometry):
            backward.add(tile, tile.of(winners), tile.of(grad_output), needs_img, needs_kernel)
        grad_kernel = backward.grad_kernel.view(kernel.shape).to(kernel.dtype)
        return (
            backward.grad_img.view(img.shape) if needs_img else None,
            grad_kernel if needs_kernel else None,
            None,
            None,
        )


def _forward(
    img: Tensor,
    kernel: Tensor,
    semifield: SelectOperations,
    geometry: Geometry,
    winners: Tensor | None,
) -> Tensor:
    """Return the output, and write the number of each winning term to ``winners``, from 1."""
    choose = CHOICES.get(semifield.add_select)
    by_group, kernels = split_groups(img, kernel, geometry)
    shape = (len(img), geometry.groups, geometry.out_channels, *geometry.out_space)
    output = img.new_empty(shape)
    for tile in tiles(img, geometry):
        best = torch.full_like(
            tile.of(output), semifield.zero, memory_format=torch.contiguous_format
        )
        numbers = None if winners is None else tile.of(winners).contiguous()
        for term in terms(by_group, kernels, geometry, tile):
            inside = best[term.pixels]
            values = semifield.times(term.img, term.kernel)
            if numbers is not None or choose is None:
                replaced = semifield.add_select(inside, values)
            if numbers is not None:
                # Later terms have larger numbers; this is much faster than a masked fill.
                number = replaced.to(numbers.dtype).mul_(term.number + 1)
                target = numbers[term.pixels]
                torch.maximum(target, number, out=target)
            if choose is None:
                inside.copy_(torch.where(replaced, values, inside))
            else:
                choose(inside, values, out=inside)  # type: ignore[call-arg]
        tile.of(output).copy_(best)
        if winners is not None and numbers is not None:
            tile.of(winners).copy_(numbers)
    return output.flatten(1, 2)


class _SelectBackward:
    """Adds each output's gradient to the image value and the kernel value that won there."""

    def __init__(
        self, img: Tensor, kernel: Tensor, semifield: SelectOperations, geometry: Geometry
    ) -> None:
        self.semifield, self.geometry = semifield, geometry
        self.img, self.kernel = img.reshape(-1), kernel.reshape(-1)
        self.grad_img = torch.zeros_like(self.img)
        # A kernel value may win millions of times: float32 would lose precision.
        self.grad_kernel = torch.zeros_like(self.kernel, dtype=torch.float64)
        self.plane_size = math.prod(geometry.space)
        self.steps = [math.prod(geometry.space[axis + 1 :]) for axis in range(geometry.ndim)]
        self.term_offsets = self._term_offsets()

    def add(
        self, tile: Tile, winners: Tensor, grad_output: Tensor, needs_img: bool, needs_kernel: bool
    ) -> None:
        """Add the gradient of one tile; both tensors are [images, groups, out, *rows]."""
        winner, grad = winners.reshape(-1).int(), grad_output.reshape(-1)
        origins, kernels = self._starts(tile, winners.shape)
        at_img = self.term_offsets.index_select(0, winner) + origins.reshape(-1)
        at_kernel = kernels.reshape(-1) + (winner - 1)
        won = winner > 0
        if not won.all():
            at_img, at_kernel, grad = at_img[won], at_kernel[won], grad[won]
        values = self.img[at_img], self.kernel[at_kernel]
        if needs_img:
            steps = grad * self.semifield.d_times_d_img(*values)
            self.grad_img.scatter_add_(0, at_img, steps)
        if needs_kernel:
            steps = grad * self.semifield.d_times_d_kernel(*values)
            self.grad_kernel.scatter_add_(0, at_kernel, steps.double())

    def _term_offsets(self) -> Tensor:
        """Return each term's offset from an output's origin in the flat image; entry 0 is none."""
        geometry = self.geometry
        offsets = [0]
        for channel in range(geometry.in_channels):
            for tap in geometry.offsets:
                shifts = zip(tap, geometry.dilation, geometry.pads, self.steps, strict=True)
                offset = sum((f * dilation - pad[0]) * step for f, dilation, pad, step in shifts)
                offsets.append(channel * self.plane_size + offset)
        return torch.tensor(offsets, device=self.img.device)

    def _starts(self, tile: Tile, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """Return the position of each output's origin in the flat image, and of its flat kernel."""
        geometry, device = self.geometry, self.img.device
        num_images, num_groups, num_out, *space = shape
        images = torch.arange(num_images, device=device) + tile.images.start
        groups = torch.arange(num_groups, device=device) + tile.groups.start
        planes = (images[:, None] * geometry.groups + groups) * geometry.in_channels
        origins = (planes * self.plane_size).view(num_images, num_groups, 1, *(1,) * len(space))
        for axis, size in enumerate(space):
            first = tile.rows.start if axis == 0 else 0
            pixels = torch.arange(first, first + size, device=device)
            steps = pixels * (geometry.stride[axis] * self.steps[axis])
            origins = origins + steps.view(-1, *(1,) * (len(space) - 1 - axis))
        outputs = groups[:, None] * num_out + torch.arange(num_out, device=device)
        kernels = (outputs * geometry.num_terms).view(num_groups, num_out, *(1,) * len(space))
        return origins.expand(shape), kernels.expand(shape)
