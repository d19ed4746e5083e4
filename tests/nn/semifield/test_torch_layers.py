"""torch's convolution and pooling with the conventions of the semifield ones."""

import pytest
import torch
from torch.nn import functional as F

from msdtool.nn.semifield import SubtractSemifield, TorchLinearConv2D, TorchMaxPool2D


def test_all_arguments_mean_what_they_mean_to_semifields():
    img, kernel = torch.rand(2, 4, 9, 8).double(), torch.rand(3, 2, 3, 4).double()
    arguments = {
        "stride": (2, 1), "padding": ((1, 2), (0, 3)), "dilation": (1, 2), "groups": 2,
        "group_broadcasting": True, "kind": "corr",
    }  # fmt: skip
    found = TorchLinearConv2D()(img, kernel, **arguments)
    by_terms = SubtractSemifield.linear()._replace(linear_form=None).dynamic()
    torch.testing.assert_close(found, by_terms(img, kernel, **arguments))
    assert found.shape[1] == 6


@pytest.mark.parametrize("padding", [1, (1, 0), "same", "valid"])
def test_pooling_is_torchs(padding):
    img = torch.randn(2, 3, 9, 8)
    pads = {"same": 1, "valid": 0}.get(padding, padding)
    pool = TorchMaxPool2D(3, 2, padding)
    assert torch.equal(pool(img), F.max_pool2d(img, 3, 2, pads))
    assert TorchMaxPool2D(3).stride == 3


def test_uneven_and_wide_padding_holds_no_pixels():
    """Negative images stay negative."""
    img = -torch.rand(1, 1, 5, 5) - 1
    pooled = TorchMaxPool2D(2, 1, "same")(img)
    expected = F.max_pool2d(F.pad(img, (0, 1, 0, 1), value=-torch.inf), 2, 1)
    assert torch.equal(pooled, expected)
    assert TorchMaxPool2D(3, 1, 2)(img).max() < 0


def test_only_images_are_taken():
    with pytest.raises(ValueError, match=r"image has shape \(1, 1, 5\); expected \[B, C, H, W\]"):
        TorchLinearConv2D()(torch.rand(1, 1, 5), torch.rand(1, 1, 3))
    with pytest.raises(ValueError, match=r"expected \[B, C, H, W\]"):
        TorchMaxPool2D(2)(torch.rand(1, 5, 5))
    with pytest.raises(ValueError, match="no room for a kernel"):
        TorchMaxPool2D(6)(torch.rand(1, 1, 5, 5))


def test_repr_shows_the_sizes():
    expected = "TorchMaxPool2D(kernel_size=3, stride=2, padding=same, dilation=1)"
    assert repr(TorchMaxPool2D(3, 2, "same")) == expected
