import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msdtool.nn.msd import MSDModule
from msdtool.nn.yaml_layers.general import GeneralMSDModule

LOG = {
    "GenericConv": {
        "kernel": {"QuadraticKernelIso2D": {"in_channels": 1, "out_channels": 1, "kernel_size": 3}},
        "conv": {"SubtractSemifield.log": {"mu": 2.0}},
    }
}


def copy_weights(source: MSDModule, target: GeneralMSDModule) -> None:
    width = source.width
    with torch.no_grad():
        for index, layer in enumerate(target.layers):
            layer.operation.weight.copy_(source.msd_block.weights[index])
            layer.bias.copy_(source.msd_block.bias[index * width : (index + 1) * width])
        target.final_layer.load_state_dict(source.final_layer.state_dict())


@settings(deadline=None, max_examples=15)
@given(
    c_in=st.integers(1, 3),
    depth=st.integers(1, 5),
    width=st.integers(1, 3),
    ndim=st.sampled_from([2, 3]),
    padding=st.sampled_from(["symmetric", "reflect", "zeros"]),
)
def test_convolution_and_relu_give_the_network_of_the_engine(c_in, depth, width, ndim, padding):
    engine = MSDModule(c_in, 2, depth, width, [1, 3], ndim=ndim, padding=padding).double()
    torch.nn.init.normal_(engine.final_layer.linear.weight)
    torch.nn.init.normal_(engine.msd_block.bias)
    general = GeneralMSDModule(c_in, 2, depth, width, [1, 3], ndim, padding).double()
    copy_weights(engine, general)
    x = torch.randn(2, c_in, *(7, 6, 5)[:ndim], dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    expected, found = engine(x), general(y)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    expected.backward(weights)
    found.backward(weights)
    torch.testing.assert_close(y.grad, x.grad)
    for index, layer in enumerate(general.layers):
        torch.testing.assert_close(
            layer.operation.weight.grad, engine.msd_block.weights[index].grad
        )


@pytest.mark.parametrize("padding", ["symmetric", "zeros"])
def test_a_semifield_in_the_layers_of_a_volume(padding):
    dilation = {
        "GenericConv": {
            "kernel": {"LearnedKernel3D": {"kernel_size": 3}},
            "conv": "SelectSemifield.tropical_max",
        }
    }
    network = GeneralMSDModule(1, 1, 2, 1, [1, 2], 3, padding, dilation, "Identity")
    for layer in network.layers:
        torch.nn.init.zeros_(layer.operation.kernel.kernel)
    torch.nn.init.ones_(network.final_layer.linear.weight)
    x = torch.zeros(1, 1, 9, 9, 9)
    x[0, 0, 4, 4, 4] = 1
    found = network(x)[0, 0]  # a cube of 3, and one of 7: the widest tap meets the cube
    one, two = torch.zeros(9, 9, 9), torch.zeros(9, 9, 9)
    one[3:6, 3:6, 3:6] = 1
    two[1:8, 1:8, 1:8] = 1
    torch.testing.assert_close(found, x[0, 0] + one + two)


@pytest.mark.parametrize("padding", ["symmetric", "zeros"])
def test_a_semifield_takes_the_place_of_the_convolution(padding):
    network = GeneralMSDModule(2, 1, 3, 2, [1, 2], padding=padding, operation=LOG)
    kernels = [layer.operation.kernel for layer in network.layers]
    assert [(k.in_channels, k.out_channels) for k in kernels] == [(2, 2), (4, 2), (6, 2)]
    assert [layer.operation.dilation for layer in network.layers] == [1, 2, 1]
    torch.nn.init.normal_(network.final_layer.linear.weight)
    x = torch.randn(2, 2, 9, 8)
    output = network(x)
    assert output.shape == (2, 1, 9, 8)
    output.square().sum().backward()
    assert all(kernel.log_std.grad.abs().sum() > 0 for kernel in kernels)


def test_a_semifield_reaches_as_far_as_its_kernel_does():
    kernel = {"LearnedKernel2D": {"in_channels": 1, "out_channels": 1, "kernel_size": 5}}
    operation = {"GenericConv": {"kernel": kernel, "conv": "SelectSemifield.tropical_max"}}
    network = GeneralMSDModule(1, 1, 2, 1, [2], operation=operation)
    assert network(torch.randn(1, 1, 4, 4)).shape == (1, 1, 4, 4)
    with pytest.raises(ValueError, match="4 is too large for an image of size 3"):
        network(torch.randn(1, 1, 3, 9))


def test_an_even_kernel_is_refused():
    kernel = {"LearnedKernel2D": {"in_channels": 1, "out_channels": 1, "kernel_size": 4}}
    operation = {"GenericConv": {"kernel": kernel, "conv": "SelectSemifield.tropical_max"}}
    with pytest.raises(ValueError, match="kernel_size is 4"):
        GeneralMSDModule(1, 1, 2, 1, [1], operation=operation)


def test_normalisation_and_activation_follow_each_operation():
    norm = {"SyncBatchNorm": {"num_features": 2}}
    network = GeneralMSDModule(1, 1, 3, 2, [1], norm=norm, activation={"LeakyReLU": {}})
    layer = network.layers[0]
    x = torch.randn(2, 1, 6, 6)
    output = layer(x)
    assert (output < 0).any()
    # Operations run twice in training, normalisations once.
    output.sum().backward()
    before = layer.operation(torch.nn.functional.pad(x, (1, 1, 1, 1), "replicate"))
    torch.testing.assert_close(layer.norm.running_mean, 0.1 * before.mean((0, 2, 3)))
