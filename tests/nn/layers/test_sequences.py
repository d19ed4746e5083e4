import pytest
import torch
from torch import nn

from msdtool.nn import layers


class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x, y, scale=1):
        return self.conv(x) * scale, self.conv(y)


@pytest.mark.parametrize("tdim", [1, 2, 3])
def test_each_step_is_computed_alone(tdim):
    x = torch.rand(2, 3, 2, 2)
    conv = nn.Conv2d(3, 4, 1)
    sequence = torch.stack([x + step for step in range(5)], tdim)
    expected = torch.stack([conv(x + step) for step in range(5)], tdim)
    torch.testing.assert_close(layers.TimeDistributed(conv, tdim=tdim)(sequence), expected)


def test_several_inputs_and_outputs_and_options_pass():
    x, y = torch.rand(2, 5, 3, 2, 2), torch.rand(5, 2, 3, 2, 2).transpose(0, 1)
    layer = layers.TimeDistributed(Both())
    fast = layer(x, y, scale=3)
    layer.low_mem = True
    slow = layer(x, y, scale=3)
    assert [part.shape for part in fast] == [(2, 5, 4, 2, 2)] * 2
    torch.testing.assert_close(fast, slow)
    torch.testing.assert_close(slow[0], 3 * layer(x, y)[0])
    torch.testing.assert_close(layer.low_mem_forward(x, y), layer(x, y))


def test_sequences_of_different_length_are_refused():
    layer = layers.TimeDistributed(Both(), low_mem=True)
    with pytest.raises(ValueError, match="shorter"):
        layer(torch.rand(2, 5, 3, 2, 2), torch.rand(2, 4, 3, 2, 2))
