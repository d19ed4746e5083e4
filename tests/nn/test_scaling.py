import numpy as np
import pytest
import torch

from msdtool.architecture import Architecture
from msdtool.nn.build import build_network
from msdtool.nn.scaling import scaling_module, set_denormalising, set_normalising
from msdtool.train.optim import build_optimizer

MEAN, STD = [3.0, -1.0], [2.0, 0.25]


def network(ndim=2):
    torch.manual_seed(0)
    return build_network(Architecture(2, 2, 3, 1, (1, 2), ndim))


@pytest.mark.parametrize("conv3d", [False, True])
def test_a_new_scaling_layer_passes_channels_on(conv3d):
    layer = scaling_module(2, 2, conv3d=conv3d)
    x = torch.rand(1, 2, *[4] * (2 + conv3d))
    assert torch.equal(layer(x), x)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_scaling_layer_is_a_convolution_that_may_mix_channels(ndim):
    layer = scaling_module(3, 2, conv3d=ndim == 3).double()
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    x = torch.rand(2, *[5] * ndim, 3, dtype=torch.float64).movedim(-1, 1).requires_grad_()
    assert torch.autograd.gradcheck(layer, x)
    columns = np.einsum("oc,bc...->bo...", layer.weight.flatten(1).numpy(), x.detach().numpy())
    expected = columns + layer.bias.numpy().reshape(-1, *[1] * ndim)
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("ndim", [2, 3])
def test_scaling_layers_hold_mean_and_std_per_channel(ndim):
    net = network(ndim)
    shape = (1, 2, *[5] * ndim)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    column = (1, 2, *[1] * ndim)
    mean, std = np.reshape(MEAN, column), np.reshape(STD, column)
    set_normalising(net.scale_in, MEAN, STD)
    set_denormalising(net.scale_out, MEAN, STD)
    np.testing.assert_allclose(
        net.scale_in(torch.tensor(x)), (x - mean) / std, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(net.scale_out(torch.tensor(x)), x * std + mean, rtol=1e-5)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_fresh_network_answers_with_the_mean_of_the_targets(ndim):
    net = network(ndim)
    set_denormalising(net.scale_out, MEAN, STD)
    output = net(torch.rand(1, 2, *[6] * ndim))
    for channel in range(2):
        assert (output[:, channel] == MEAN[channel]).all()


def test_scaling_is_saved():
    net, other = network(), network()
    set_normalising(net.scale_in, MEAN, STD)
    set_denormalising(net.scale_out, MEAN, STD)
    state = net.state_dict()
    names = {"scale_in.weight", "scale_in.bias", "scale_out.weight", "scale_out.bias"}
    assert names <= set(state)
    other.load_state_dict(state)
    x = torch.rand(1, 2, 6, 6)
    assert torch.equal(other(x), net(x))


def test_scaling_is_not_trained():
    net = network()
    set_denormalising(net.scale_out, MEAN, STD)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    optimizer = build_optimizer("adam", net.parameters(), 0.1, 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        net(torch.rand(1, 2, 6, 6)).square().sum().backward()
        optimizer.step()
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith("scale_"), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_values_in_the_units_of_data_alone(dtype):
    """16 bits would round 30,000 +- 1 to multiples of 16 or 128."""
    net = network()
    set_normalising(net.scale_in, [30000.0] * 2, [1.0] * 2)
    set_denormalising(net.scale_out, [30000.0] * 2, [1.0] * 2)
    x = 30000 + torch.randn(1, 2, 6, 6)
    with torch.autocast("cpu", dtype=dtype):
        scaled, restored = net.scale_in(x), net.scale_out((x - 30000).to(dtype))
    assert torch.equal(scaled, net.scale_in(x))
    assert restored.dtype == torch.float32
    torch.testing.assert_close(restored, x, rtol=0, atol=0.02)
