"""What is recorded of the winners, and what user-defined functions see."""

import pytest
import torch

from msdtool.ops.semifield import Convolution, SelectOperations, select_conv
from msdtool.ops.semifield.select import index_dtype


@pytest.mark.parametrize(("num_terms", "dtype"), [
    (1, torch.uint8), (255, torch.uint8), (256, torch.int16), (32767, torch.int16),
    (32768, torch.int32),
])  # fmt: skip
def test_the_index_is_the_smallest_that_holds_all_terms(num_terms, dtype):
    assert index_dtype(num_terms) is dtype


@pytest.mark.parametrize("channels", [28, 29, 4000])
def test_indices_of_every_size_find_their_winner(channels):
    """252, 261 and 36,000 terms; the winner is the last one."""
    img = torch.zeros(1, channels, 4, 4)
    img[0, -1] = torch.arange(16.0).view(4, 4)
    kernel = torch.zeros(1, channels, 3, 3)
    kernel[0, -1, 2, 2] = 100.0
    max_plus = SelectOperations(torch.lt, torch.add, lambda *_: 1.0, lambda *_: 1.0, -torch.inf)
    img, kernel = img.requires_grad_(), kernel.requires_grad_()
    output = select_conv(img, kernel, max_plus, Convolution(kind="corr"))
    assert output[0, 0].tolist() == [[110, 111], [114, 115]]
    grads = torch.autograd.grad(output.sum(), (img, kernel))
    assert grads[0].nonzero()[:, 1:].tolist() == [
        [channels - 1, y, x] for y in (2, 3) for x in (2, 3)
    ]
    assert grads[1].nonzero().tolist() == [[0, channels - 1, 2, 2]]
    assert grads[1].sum() == 4


def test_derivatives_see_the_winning_values():
    """max of products, with the gradient written down by hand."""
    times = SelectOperations(
        lambda left, right: right > left,
        lambda img, kernel: img * kernel,
        lambda img, kernel: kernel,
        lambda img, kernel: img,
        0.0,
    )
    img = torch.tensor([[[1.0, 3.0, 2.0]]], requires_grad=True)
    kernel = torch.tensor([[[2.0, 5.0]]], requires_grad=True)
    output = select_conv(img, kernel, times, Convolution(kind="corr"))
    assert output.tolist() == [[[15, 10]]]  # max(1*2, 3*5), max(3*2, 2*5)
    grads = torch.autograd.grad(output, (img, kernel), torch.tensor([[[1.0, 10.0]]]))
    assert grads[0].tolist() == [[[0, 5, 50]]]
    assert grads[1].tolist() == [[[0, 1 * 3 + 10 * 2]]]


def test_a_kernel_gradient_of_many_pixels_keeps_its_digits():
    img = torch.zeros(1, 1, 3000, 1000)
    kernel = torch.zeros(1, 1, 1, 1, requires_grad=True)
    plus = SelectOperations(torch.lt, torch.add, lambda *_: 1.0, lambda *_: 1.0, -torch.inf)
    output = select_conv(img, kernel, plus, Convolution())
    (grad,) = torch.autograd.grad(output, kernel, torch.full_like(output, 0.1))
    assert grad.item() == pytest.approx(3e5, rel=1e-6)
