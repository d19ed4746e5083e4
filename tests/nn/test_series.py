import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from msdtool.nn.msd import MSDModule
from msdtool.nn.scaling import set_denormalising, set_normalising
from msdtool.nn.series import SeriesNetwork
from msdtool.nn.streaming import Conv1d, Conv3d
from msdtool.nn.streaming.frames import InFrames
from tests.nn.streaming.test_convolution import filled, random


def make_network(axis=0, dt=4):
    """Temporal layers before and after an MSD network, none of its weights zero."""
    torch.manual_seed(0)
    msd = MSDModule(2, 3, 2, 1, [1, 2])
    nn.init.normal_(msd.final_layer.linear.weight)
    chain = nn.Sequential(
        InFrames(filled(Conv3d(1, 2, (3, 3, 1)))), msd, InFrames(filled(Conv1d(3, 1, 4)))
    )
    network = SeriesNetwork(chain, 1, 1, axis, dt).double()
    set_normalising(network.scale_in, [1.0], [2.0])
    set_denormalising(network.scale_out, [3.0], [4.0])
    return network.requires_grad_(False)


def by_hand(network, series):
    """The network on a series along axis 0, its temporal layers on all frames at once."""
    first, msd, last = network.msd
    for link in (first, last):
        link.layer.clear_state()
    x = first.layer((series - 1) / 2)
    x = torch.stack([msd(x[:, :, t]) for t in range(x.shape[2])], 2)
    return last.layer(x) * 4 + 3


@settings(deadline=None, max_examples=15)
@given(
    T=st.integers(1, 8), dt=st.integers(1, 9), B=st.integers(1, 2), axis=st.sampled_from([0, 1, 2])
)
def test_the_result_is_that_of_each_part_whatever_dt_and_axis(T, dt, B, axis):  # noqa: N803
    network, series = make_network(axis, dt), random(B, 1, T, 4, 5)
    expected = by_hand(network, series).movedim(2, 2 + axis)
    turned = series.movedim(2, 2 + axis)
    with torch.no_grad():
        torch.testing.assert_close(network(turned), expected)
    torch.testing.assert_close(network(turned), expected)  # in one piece


def test_a_series_can_be_continued_and_begun_again():
    network, series = make_network(), random(1, 1, 9, 4, 5)
    whole = network(series)
    for _ in range(2):
        network.clear_state()
        pieces = [network.advance(piece) for piece in series.split([2, 1, 6], 2)]
        torch.testing.assert_close(torch.cat(pieces, 2), whole)


def test_whole_series_leave_no_trace():
    network, series = make_network(), random(1, 1, 5, 4, 5)
    first = network(series)
    network(random(2, 1, 5, 6, 6, seed=1))  # another size and number
    torch.testing.assert_close(network(series), first)


def test_without_gradients_no_more_than_dt_frames_are_in_the_network():
    network, sizes = make_network(dt=3), []
    network.msd[1].register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    with torch.no_grad():
        network(random(1, 1, 8, 4, 5))
    assert sizes == [3, 3, 2]
    network.requires_grad_(True)
    network(random(1, 1, 8, 4, 5)).sum().backward()
    assert sizes[3:] == [8]
    assert all(p.grad is not None for p in network.msd.parameters())


def test_another_number_of_channels_is_refused():
    with pytest.raises(ValueError, match="the image has 2 channels, the network takes 1"):
        make_network()(random(1, 2, 5, 4, 5))
