"""The final 1x1 layer over all channels of a block, strip by strip and without a copy of them.

`planes` and `grads` are [C, size] buffers in the given layout, `pixels` are images [c_out, *space].
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from msdtool.ops.halo import Layout
from msdtool.ops.products import matrix_product

STRIP_BYTES = 4 * 2**20


def forward_final(
    layout: Layout, planes: Tensor, weight: Tensor, bias: Tensor, output: Tensor
) -> None:
    """Write weight [c_out, C, 1] times planes plus bias [c_out] to output [c_out, *space]."""
    matrix = weight.squeeze(2)
    shape = (-1,) + (1,) * len(layout.space)
    for slices, flat in _strips(layout, planes):
        strip = layout.interior(matrix @ planes[:, flat])
        torch.add(strip, bias.view(shape), out=output[:, slices])


def backward_final(
    layout: Layout,
    planes: Tensor,
    weight: Tensor,
    grad_output: Tensor,
    grads: Tensor,
    grad_weight: Tensor | None,
) -> None:
    """Write the gradient by every channel to grads; add that by the weight to grad_weight."""
    transposed = weight.squeeze(2).t()
    for slices, flat in _strips(layout, planes):
        strip = grads.new_empty(len(grad_output), flat.stop - flat.start)
        layout.load(strip, grad_output[:, slices])
        matrix_product(transposed, strip, out=grads[:, flat])
        if grad_weight is not None:
            grad_weight.squeeze(2).addmm_(strip, planes[:, flat].t())


def _strips(layout: Layout, planes: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of the image whose channels fit the cache, and the same as elements of a plane."""
    slice_bytes = len(planes) * layout.slice_size * planes.element_size()
    num_slices = max(1, STRIP_BYTES // slice_bytes)
    for start in range(0, layout.num_slices, num_slices):
        stop = min(start + num_slices, layout.num_slices)
        yield slice(start, stop), slice(start * layout.slice_size, stop * layout.slice_size)
