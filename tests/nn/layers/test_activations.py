import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msdtool.nn import layers


def test_sigmoid_range_stays_in_its_range():
    x = torch.tensor([-10.0, 0.0, 10.0])
    expected = torch.tensor([-1.0, 0.5, 2.0])
    torch.testing.assert_close(layers.sigmoid_range(x, -1, 2), expected, atol=1e-3, rtol=0)
    assert repr(layers.SigmoidRange(-5, -1)) == "SigmoidRange(low=-5, high=-1)"


def test_sigmoid_in_place_writes_and_can_be_differentiated():
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)

    def in_place(x):
        y = x * 2
        result = layers.sigmoid_(y)
        assert result.data_ptr() == y.data_ptr()
        return result

    assert torch.autograd.gradcheck(in_place, x)
    assert layers.sigmoid_(torch.tensor([100.0, -100.0])).tolist() == [
        torch.tensor(1 - 1e-7).item(),
        torch.tensor(1e-7).item(),
    ]


def test_leaky_relu_writes_over_its_input_by_default():
    x = torch.tensor([-1.0, 2.0])
    assert layers.vleaky_relu(x, inplace=False).tolist() == torch.tensor([-0.3, 2.0]).tolist()
    assert x[0] == -1
    layers.vleaky_relu(x)
    assert x[0] == torch.tensor(-0.3)


@settings(deadline=None, max_examples=20)
@given(values=st.lists(st.floats(-30, 30), min_size=1, max_size=6))
def test_mish_has_the_right_first_and_second_derivative(values):
    x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layers.MishJitAutoFn.apply, x)
    assert torch.autograd.gradgradcheck(layers.MishJitAutoFn.apply, x)


def test_swish_and_mish_follow_their_formulas():
    x = torch.linspace(-4, 4, 9, dtype=torch.float64)
    torch.testing.assert_close(layers.swish(x), x / (1 + torch.exp(-x)))
    expected = x * torch.tanh(torch.log(1 + torch.exp(x)))
    torch.testing.assert_close(layers.mish(x), expected)
    torch.testing.assert_close(layers.SwishJit()(x), layers.swish(x))
    torch.testing.assert_close(layers.MishJit()(x), expected)
