"""The semifields as values, and the convolutions made of them."""

import math
import operator

import pytest
import torch

from msdtool.nn.semifield import BroadcastSemifield, SelectSemifield, SubtractSemifield

USER = {
    "add_select": operator.lt, "times": torch.add, "d_times_d_img": lambda *_: 1.0,
    "d_times_d_kernel": lambda *_: 1.0, "zero": -math.inf,
}  # fmt: skip


@pytest.mark.parametrize("make", [BroadcastSemifield.root, SubtractSemifield.root])
def test_the_root_needs_a_power(make):
    with pytest.raises(ValueError, match="p is 0; expected a number other than 0"):
        make(0)


@pytest.mark.parametrize("make", [BroadcastSemifield.log, SubtractSemifield.log])
@pytest.mark.parametrize("mu", [0.0, math.nan, math.inf, "2"])
def test_the_logarithm_needs_a_factor(make, mu):
    with pytest.raises(ValueError, match=r"mu is .*; expected a number other than 0"):
        make(mu)


def test_zeros():
    assert BroadcastSemifield.root(3.0).zero == torch.finfo(torch.float32).eps
    assert SubtractSemifield.root(3.0).zero == 0
    for make in (BroadcastSemifield.log, SubtractSemifield.log):
        assert make(2.0).zero == -math.inf
        assert make(-2.0).zero == math.inf


def test_semifields_of_one_name_are_equal():
    assert SelectSemifield.tropical_max() == SelectSemifield.tropical_max()
    assert hash(SubtractSemifield.log(2.0)) == hash(SubtractSemifield.log(2.0))
    assert SubtractSemifield.log(2.0) != SubtractSemifield.log(-2.0)
    assert SelectSemifield.tropical_max() != SelectSemifield.tropical_min_negated()
    named = SelectSemifield(**USER, cache_name="_tropical_max")
    assert named == SelectSemifield.tropical_max()
    first, second = SelectSemifield(**USER), SelectSemifield(**USER)
    assert first == first  # noqa: PLR0124 - without a name, it equals itself alone
    assert first != second
    assert {first: 1}[first] == 1
    assert first != "SelectSemifield"


def test_functions_that_fail_on_tensors_are_refused_at_once():
    semifield = SelectSemifield(**{**USER, "times": lambda i, k: math.exp(i + k)})
    for make in (semifield.dynamic, semifield.lazy_fixed):
        with pytest.raises(
            ValueError, match=r"times of the semifield .* torch\.exp instead of math"
        ):
            make()


def test_a_post_sum_needs_its_inverse_and_derivative():
    root = SubtractSemifield.root(2.0)
    for name in ("undo_post_sum", "d_post_d_acc"):
        with pytest.raises(ValueError, match=f"post_sum of the semifield needs {name}"):
            root._replace(**{name: None}).dynamic()


def test_a_user_defined_sum_is_undone():
    """The root semifield without its linear form, CUDA expressions and name."""
    root = SubtractSemifield.root(3.0)
    user = SubtractSemifield(*root[:7], None, *root[8:11])
    img, kernel = torch.rand(1, 2, 6, 6).double(), torch.rand(2, 2, 3, 3).double()
    grads = []
    for semifield in (root, user):
        inputs = img.clone().requires_grad_(), kernel.clone().requires_grad_()
        output = semifield.dynamic()(*inputs, padding=1)
        grads.append((output.detach(), *torch.autograd.grad(output.square().sum(), inputs)))
    for left, right in zip(*grads, strict=True):
        torch.testing.assert_close(left, right)


def test_options_of_the_original_are_accepted():
    for make in (SelectSemifield.tropical_max(), SubtractSemifield.linear()):
        options = {"thread_block_size": 64, "to_extension": True, "debug": True}
        for conv in (make.dynamic(**options), make.lazy_fixed(**options, kernel_inflation=4)):
            assert conv(torch.ones(1, 1, 4), torch.ones(1, 1, 3)).shape == (1, 1, 2)


def test_only_the_batch_of_a_fixed_convolution_may_change():
    conv = SelectSemifield.tropical_max().lazy_fixed()
    img, kernel = torch.rand(2, 1, 6, 6), torch.rand(1, 1, 3, 3)
    with pytest.raises(ValueError, match="image has 1 channels"):
        conv(img, torch.rand(1, 2, 3, 3))  # does not count as the first call
    conv(img, kernel, padding="same")
    assert conv(img[:1], kernel, padding="same").shape == (1, 1, 6, 6)
    with pytest.raises(ValueError, match=r"Failed to match .* \(1, 6, 6\) before, \(1, 6, 5\) now"):
        conv(img[..., 1:], kernel, padding="same")
    with pytest.raises(ValueError, match=r"kernel of shape \(1, 1, 3, 3\) before, \(1, 1, 3, 2\)"):
        conv(img, kernel[..., 1:], padding="same")
    with pytest.raises(ValueError, match=r"arguments .*padding='same'.* before, .*padding=0.* now"):
        conv(img, kernel)
    assert conv(img, kernel, padding="same").shape == (2, 1, 6, 6)


def test_dynamic_convolutions_take_any_size():
    conv = SubtractSemifield.log(1.0).dynamic()
    for ndim in (1, 2, 3, 4):
        output = conv(torch.rand(1, 1, *(5,) * ndim), torch.rand(2, 1, *(3,) * ndim), padding=1)
        assert output.shape == (1, 2, *(5,) * ndim)


@pytest.mark.parametrize("extreme", ["tropical_max", "tropical_min_negated"])
def test_channels_can_be_added_after_the_extreme_of_the_taps(extreme):
    img, kernel = torch.rand(1, 3, 6, 6), torch.rand(2, 3, 3, 3)
    found = getattr(BroadcastSemifield, extreme)(channels_add=True).dynamic()(img, kernel)
    single = getattr(SelectSemifield, extreme)().dynamic()
    parts = [single(img[:, c : c + 1], kernel[:, c : c + 1]) for c in range(3)]
    torch.testing.assert_close(found, sum(parts))


@pytest.mark.parametrize("extreme", ["tropical_max", "tropical_min_negated"])
def test_the_gradient_of_equal_extremes_goes_to_one_or_is_spread(extreme):
    for spread in (False, True):
        img = torch.zeros(1, 1, 3, requires_grad=True)
        conv = getattr(BroadcastSemifield, extreme)(spread_gradient=spread).dynamic()
        (grad,) = torch.autograd.grad(conv(img, torch.zeros(1, 1, 3)).sum(), img)
        expected = [1 / 3] * 3 if spread else [0, 0, 1]
        assert sorted(grad[0, 0].tolist()) == pytest.approx(expected)


@pytest.mark.parametrize("p", [-2.0, -1.5, 3.0])
def test_windows_of_padding_alone_add_nothing_to_the_gradients_of_roots(p):
    image = torch.tensor([[[0.5, 2.0, 1.5, 0.7]]], dtype=torch.float64, requires_grad=True)
    kernel = torch.full((1, 1, 1), 1.25, dtype=torch.float64, requires_grad=True)
    output = SubtractSemifield.root(p).dynamic()(image, kernel, padding=2)
    zero = 0.0 if p > 0 else torch.inf
    assert output[0, 0, [0, 1, -2, -1]].tolist() == [zero] * 4
    cotangents = torch.tensor([0.0, 3.0, 1.0, 2.0, 4.0, 8.0, 0.0, 5.0], dtype=torch.float64)
    output.backward(cotangents.view(1, 1, 8))
    # A window of one pixel has the one term (x k)^p, whose root is x k.
    inner = cotangents[2:6]
    torch.testing.assert_close(kernel.grad[0, 0, 0], (inner * image.detach()[0, 0]).sum())
    torch.testing.assert_close(image.grad[0, 0], inner * 1.25)
