import pytest
import torch
from torch import nn

from msdtool.nn import layers
from msdtool.nn.layers import NormType


@pytest.mark.parametrize(
    ("make", "kinds", "zero"),
    [
        (
            layers.BatchNorm,
            (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
            NormType.BatchZero,
        ),
        (
            layers.InstanceNorm,
            (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
            NormType.InstanceZero,
        ),
    ],
)
def test_norms_are_those_of_torch_with_other_initial_values(make, kinds, zero):
    for ndim, kind in enumerate(kinds, 1):
        norm = make(15, ndim=ndim)
        assert isinstance(norm, kind)
        assert (norm.weight == 1).all()
        torch.testing.assert_close(norm.bias.detach(), torch.full((15,), 1e-3))
    assert (make(15, norm_type=zero).weight == 0).all()
    assert make(15, affine=False).weight is None
    with pytest.raises(ValueError, match="ndim is 4"):
        make(15, ndim=4)


def test_flat_batch_norm_takes_all_axes_but_the_last_together():
    norm = layers.BatchNorm1dFlat(15)
    x = torch.randn(32, 64, 15)
    y = norm(x)
    mean, var = x.mean((0, 1)), x.var((0, 1), unbiased=False)
    torch.testing.assert_close(norm.running_mean, mean * 0.1)
    torch.testing.assert_close(norm.running_var, 0.9 + var * 0.1, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(y, (x - mean) / torch.sqrt(var + 1e-5), rtol=1e-4, atol=1e-4)
    assert norm(x[:, 0]).shape == (32, 15)


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        ({}, [nn.BatchNorm1d, nn.Linear]),
        ({"p": 0.1}, [nn.BatchNorm1d, nn.Dropout, nn.Linear]),
        ({"act": nn.ReLU(), "lin_first": True}, [nn.Linear, nn.ReLU, nn.BatchNorm1d]),
        ({"bn": False}, [nn.Linear]),
    ],
)
def test_linear_layer_norm_and_dropout_come_in_the_documented_order(arguments, kinds):
    layer = layers.LinBnDrop(10, 20, **arguments)
    assert [type(child) for child in layer] == kinds
    assert layer(torch.randn(4, 10)).shape == (4, 20)
    linear = next(child for child in layer if isinstance(child, nn.Linear))
    assert (linear.bias is None) == arguments.get("bn", True)
