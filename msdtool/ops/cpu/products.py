"""The matrix products of the engine in torch: their operands, their shapes, and the final layer.

Few rows, many pixels: planes and grads are [C, size] buffers in a `Layout`, images [C, *space].
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from msdtool.ops.cpu.layout import Layout

STRIP_BYTES = 4 * 2**20
"""Channels that the final layer multiplies at a time."""


def tap_rows(weight: Tensor) -> Tensor:
    """A weight [width, m, 3, 3(, 3)] as the rows of a matrix product, [width * 3^n, m]."""
    return weight.flatten(2).transpose(1, 2).flatten(0, 1)


def reversed_tap_rows(weight: Tensor) -> Tensor:
    """`tap_rows` with the taps in the order of `msdtool.ops.cpu.taps.TapStack.spread`."""
    return tap_rows(weight.flatten(2).flip(2))


def matrix_product(matrix: Tensor, pixels: Tensor, out: Tensor) -> None:
    """Write matrix [M, K] times pixels [K, N] to out [M, N]."""
    if matrix.shape[1] == 1:
        # Twice as fast as a product of BLAS, which is made for long sums.
        torch.mul(matrix, pixels, out=out)
    else:
        torch.mm(matrix, pixels, out=out)


def add_pixel_sums(sums: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left [M, N] times right [K, N] transposed, a sum over pixels, to sums [M, K].

    Two halves as a batch: BLAS splits a batch over its threads better than one long sum.
    """
    half = left.shape[1] // 2
    pairs = [part[:, : 2 * half].view(-1, 2, half).transpose(0, 1) for part in (left, right)]
    sums.add_(torch.bmm(pairs[0], pairs[1].transpose(1, 2)).sum(0))
    if left.shape[1] % 2:
        sums.addmm_(left[:, 2 * half :], right[:, 2 * half :].t())


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
    """Write the gradient with respect to every channel to grads; add to grad_weight."""
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
