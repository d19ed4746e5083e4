"""The original's own numbers, where it is consistent."""

import pytest
import torch

from msdtool.nn.streaming import Conv2d, Conv3d, Layer, TimePadding
from tests.golden import Case


@pytest.mark.parametrize(
    "name", ["conv3d_memory_oneshot", "conv3d_memory_chunked", "conv3d_memory_multichannel"]
)
def test_the_convolution_and_its_gradients_are_the_originals(name):
    case = Case("convis", name)
    layer = Conv3d(*case.args, **case.kwargs).double()
    layer.load_state_dict(case.state())
    input = case["in.0"].requires_grad_()
    (output,) = layer.run(input, dt=case.description["call"]["dt"])
    case.assert_close(output, "out.0")
    output.backward(case["gy.0"])
    case.check_gradients(layer, input)


def test_state_is_carried_and_cleared_as_in_the_original():
    case = Case("convis", "state_carry_and_clear")
    layer = Conv3d(*case.args, **case.kwargs).double()
    layer.load_state_dict(case.state())
    for number in range(3):
        if number == 2:
            layer.clear_state()
        case.assert_close(layer.run(case[f"in.{number}"])[0], f"out.{number}")


def test_weight_and_bias_start_at_zero():
    case = Case("convis", "conv3d_initial_zero")
    layer = Conv3d(2, 3, (2, 3, 3)).double()
    for name, value in layer.state_dict().items():
        case.assert_close(value, f"after.{name}")


@pytest.mark.parametrize("name", ["set_weight_1d", "set_weight_3d_normalize"])
def test_a_kernel_that_is_set_is_the_response_to_an_impulse(name):
    case = Case("convis", name)
    layer = Conv3d(*case.args).double()
    layer.set_weight(case["kernel"].numpy(), **case.description["call"])
    case.assert_close(layer.weight.detach(), "after.weight")
    case.assert_close(layer.run(case["in.0"])[0].detach(), "out.0")


def test_fitting_in_pieces_goes_the_originals_way():
    case = Case("convis", "layer_optimize_sgd_chunks")
    layer = Conv3d(*case.args, **case.kwargs).double()
    layer.load_state_dict(case.state())
    layer.set_optimizer.SGD(lr=case.description["call"]["lr"])
    losses = layer.optimize(case["in.0"], case["in.1"], dt=case.description["call"]["dt"])
    case.assert_close(torch.tensor(losses, dtype=torch.float64), "out.losses")
    case.assert_close(layer.weight.detach(), "after.weight")


def test_frames_are_convolved_one_by_one():
    case = Case("convis", "Conv2d")
    layer = Conv2d(2, 3, (3, 2)).double()
    layer.load_state_dict(case.state())
    case.assert_close(layer.run(case["in.0"])[0].detach(), "out.0")


def test_time_padding_repeats_the_first_frame():
    case = Case("convis", "TimePadding")
    case.assert_close(TimePadding(3).run(case["in.0"])[0], "out.0")


class PageExample(Layer):
    """A user's own layer: the worked example of the original's page, its quirks included.

    It starts with the last frames of the first piece, and its odd kernels are off by one pixel.
    """

    def __init__(self, in_channels=1, out_channels=1, kernel_dim=(1, 1, 1), bias=False):
        self.dim = 5
        super().__init__()
        self.conv = torch.nn.Conv3d(in_channels, out_channels, kernel_dim, bias=bias)
        self.register_state("seen", None)

    def forward(self, x):
        length = self.conv.kernel_size[0] - 1
        past = x if self.seen is None else self.seen
        joined = torch.cat([past[:, :, -length:], x], 2)
        self.seen = x.detach()
        sides = [(k // 2 - 1, k - k // 2) for k in reversed(self.conv.kernel_size[1:])]
        return self.conv(torch.nn.functional.pad(joined, (*sides[0], *sides[1], 0, 0), "replicate"))


def test_the_pages_example_can_be_written_as_a_layer():
    case = Case("convis", "doc_literal_memory_conv")
    layer = PageExample(*case.args, **case.kwargs).double()
    layer.conv.load_state_dict(case.state())
    with torch.no_grad():
        case.assert_close(layer(case["in.0"]), "out.0")
        case.assert_close(layer(case["in.1"]), "out.1")
