"""Matrix products in the shapes of the engine: few rows, many pixels."""

import torch
from torch import Tensor


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
