import pytest
import torch
from torch import nn
from torch.nn import functional as F

from msdtool.nn import layers


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.randn(1))
        self.linear = nn.Linear(5, 10)


class Sharing(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 10)
        self.weight = self.linear.weight


def test_children_come_before_parameters_of_their_own():
    model = Mixed()
    linear, parameter = layers.children_and_parameters(model)
    assert linear is model.linear
    assert isinstance(parameter, layers.ParameterModule)
    assert parameter.val is model.a
    assert parameter(3) == 3
    assert layers.children_and_parameters(shared := Sharing()) == [shared.linear]


def test_flattened_model_has_every_leaf():
    assert not layers.has_children(nn.ReLU())
    assert layers.has_children(Mixed())
    flat = layers.flatten_model(nn.Sequential(Mixed(), Mixed()))
    kinds = [nn.Linear, layers.ParameterModule] * 2
    assert [type(leaf) for leaf in flat] == kinds


@pytest.mark.parametrize(
    ("model", "channels"),
    [
        (nn.Sequential(nn.Conv2d(5, 4, 3), nn.Conv2d(4, 3, 3)), 5),
        (nn.Sequential(layers.BatchNorm(4), nn.Conv2d(4, 3, 3)), 4),
        (nn.Sequential(layers.InstanceNorm(4, affine=False), nn.Conv2d(4, 3, 3)), 4),
        (nn.Conv2d(6, 4, 3, groups=2), 6),
        (nn.ConvTranspose2d(5, 4, 3), 5),
        (nn.Conv3d(5, 4, 3), 5),
    ],
)
def test_input_channels_are_those_of_the_first_convolution(model, channels):
    assert layers.in_channels(model) == channels


def test_model_without_convolution_has_no_input_channels():
    with pytest.raises(ValueError, match="no convolution"):
        layers.in_channels(nn.Sequential(nn.AvgPool2d(4)))


def test_loss_gives_all_values_for_a_while_only():
    x, y = torch.randn(5), torch.randn(5)
    loss = nn.MSELoss()
    with pytest.raises(KeyError), layers.NoneReduce(loss) as each:
        assert each(x, y).shape == (5,)
        raise KeyError
    assert loss.reduction == "mean"
    with layers.NoneReduce(F.mse_loss) as each:
        assert each(x, y).shape == (5,)
