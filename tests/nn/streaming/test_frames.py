import pytest
import torch
from torch import nn

from msdtool.nn.streaming import Delay, TimePadding
from msdtool.nn.streaming.frames import InFrames, to_frames, to_series
from tests.nn.streaming.test_convolution import random


def test_frames_are_the_series_one_after_the_other():
    series = random(2, 3, 4, 5, 6)
    frames = to_frames(series)
    assert torch.equal(frames[4 + 3], series[1, :, 3])
    assert torch.equal(to_series(frames, 2), series)


@pytest.mark.parametrize("num_series", [1, 2])
def test_a_temporal_layer_sees_each_series_of_a_batch_by_itself(num_series):
    frames = random(6, 1, 2, 2)
    layer = InFrames(Delay(1))
    layer.num_series = num_series
    expected = frames[[0, 0, 1, 2, 3, 4]]
    expected[[0] if num_series == 1 else [0, 3]] = 0
    assert torch.equal(nn.Sequential(layer)(frames), expected)


def test_a_layer_that_changes_the_number_of_frames_is_refused():
    with pytest.raises(ValueError, match="TimePadding returns 5 frames for 3; inside a network"):
        InFrames(TimePadding(2))(torch.ones(3, 1, 2, 2))
