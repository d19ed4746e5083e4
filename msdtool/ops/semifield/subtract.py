"""Semifield convolutions whose sum can be undone: the backward pass removes each term again.

Only the input and the output are kept, regardless of the number of terms.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from msdtool.ops.semifield.geometry import Geometry
from msdtool.ops.semifield.operations import SubtractOperations
from msdtool.ops.semifield.tiles import split_groups, terms, tiles


def subtract_by_terms(
    img: Tensor, kernel: Tensor, semifield: SubtractOperations, geometry: Geometry
) -> Tensor:
    """Compute `subtract_conv` in plain torch, term by term."""
    output: Tensor = SubtractByTerms.apply(img, kernel, semifield, geometry)
    return output


class SubtractByTerms(torch.autograd.Function):
    """The autograd function of `subtract_by_terms`; it can be differentiated once."""

    @staticmethod
    def forward(
        ctx: Any, img: Tensor, kernel: Tensor, semifield: SubtractOperations, geometry: Geometry
    ) -> Tensor:
        by_group, kernels = split_groups(img, kernel, geometry)
        shape = (len(img), geometry.groups, geometry.out_channels, *geometry.out_space)
        output = img.new_empty(shape)
        for tile in tiles(img, geometry):
            part = tile.of(output)
            total = torch.full_like(part, semifield.zero, memory_format=torch.contiguous_format)
            for term in terms(by_group, kernels, geometry, tile):
                inside = total[term.pixels]
                inside.copy_(semifield.add(inside, semifield.times(term.img, term.kernel)))
            part.copy_(total if semifield.post_sum is None else semifield.post_sum(total))
        output = output.flatten(1, 2)
        ctx.semifield, ctx.geometry = semifield, geometry
        ctx.save_for_backward(img, kernel, output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        img, kernel, output = ctx.saved_tensors
        semifield: SubtractOperations = ctx.semifield
        geometry: Geometry = ctx.geometry
        by_group, kernels = split_groups(img, kernel, geometry)
        grad_img = torch.zeros_like(by_group, memory_format=torch.contiguous_format)
        grad_kernel = torch.zeros_like(kernels, memory_format=torch.contiguous_format)
        outputs = output.unflatten(1, (geometry.groups, geometry.out_channels))
        grads = grad_output.unflatten(1, (geometry.groups, geometry.out_channels))
        for tile in tiles(img, geometry):
            total, grad = tile.of(outputs), tile.of(grads)
            if semifield.undo_post_sum is not None and semifield.d_post_d_acc is not None:
                total = semifield.undo_post_sum(total)
                grad = grad * semifield.d_post_d_acc(total)
            read = terms(by_group, kernels, geometry, tile)
            written = terms(grad_img, grad_kernel, geometry, tile)
            for term, target in zip(read, written, strict=True):
                values = semifield.times(term.img, term.kernel)
                others = semifield.subtract(total[term.pixels], values)
                step = grad[term.pixels] * semifield.d_add_d_right(others, values)
                to_img = step * semifield.d_times_d_img(term.img, term.kernel)
                target.img.add_(to_img.sum(2, keepdim=True))
                to_kernel = step * semifield.d_times_d_kernel(term.img, term.kernel)
                target.kernel.add_(to_kernel.sum((0, *range(3, step.dim()))).view_as(target.kernel))
        return (
            grad_img.flatten(1, 2),
            grad_kernel.flatten(0, 1),
            None,
            None,
        )
