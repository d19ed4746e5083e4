"""GenericConv and GenericClosing."""

import copy
import pickle

import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from msdtool.nn.semifield import (
    BroadcastSemifield,
    GenericClosing,
    GenericConv,
    LearnedKernel2D,
    LearnedKernel3D,
    QuadraticKernelCholesky2D,
    QuadraticKernelIso2D,
    QuadraticKernelSpectral2D,
    SelectSemifield,
    SubtractSemifield,
    TorchLinearConv2D,
)


def flat_closing(size: int, channels: int = 1, **arguments) -> GenericClosing:
    kernel = LearnedKernel2D(1, channels, size).double()
    nn.init.zeros_(kernel.kernel)
    dilation = SelectSemifield.tropical_max().dynamic()
    erosion = SelectSemifield.tropical_min_negated().dynamic()
    sizes = {"padding": "same", "groups": channels, **arguments}
    return GenericClosing(kernel, dilation, erosion, **sizes)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_flat_closing_is_that_of_scipy(size):
    img = draw(2, 3, 11, 14)
    closed = flat_closing(size, 3)(img)
    for plane, found in zip(img.flatten(0, 1), closed.detach().flatten(0, 1), strict=True):
        # scipy pads both of its steps by reflection, which for flat kernels changes nothing.
        expected = torch.from_numpy(ndimage.grey_closing(plane.numpy(), size=(size, size)))
        assert torch.equal(found, expected)


def test_a_flat_closing_of_a_volume_is_that_of_scipy():
    kernel = LearnedKernel3D(1, 1, 3).double()
    nn.init.zeros_(kernel.kernel)
    dilation = SelectSemifield.tropical_max().dynamic()
    erosion = SelectSemifield.tropical_min_negated().dynamic()
    volume = draw(1, 1, 6, 7, 8)
    closed = GenericClosing(kernel, dilation, erosion, padding="same")(volume).detach()
    assert torch.equal(closed[0, 0], torch.from_numpy(ndimage.grey_closing(volume[0, 0], size=3)))


def test_a_closing_only_adds_and_adds_nothing_the_second_time():
    kernel = QuadraticKernelSpectral2D(1, 1, 5).double()
    dilation = SelectSemifield.tropical_max().dynamic()
    erosion = SelectSemifield.tropical_min_negated().dynamic()
    closing = GenericClosing(kernel, dilation, erosion, padding="same")
    img = draw(1, 1, 16, 17)
    closed = closing(img)
    assert (closed >= img - 1e-12).all()
    assert (closed > img + 1e-3).any()
    torch.testing.assert_close(closing(closed), closed)


def test_the_kernel_learns_from_both_steps():
    """Each step alone gives another gradient, and the closing the sum of both."""
    img = draw(1, 1, 12, 12)
    closing = flat_closing(3)
    nn.init.normal_(closing.kernel.kernel, generator=torch.Generator().manual_seed(1))
    upstream = draw(1, 1, 12, 12)
    (whole,) = torch.autograd.grad(closing(img), closing.kernel.kernel, upstream)
    first, second = (closing.kernel.kernel.detach().clone().requires_grad_() for _ in range(2))
    dilated = closing.conv_dilation(img, first, padding="same", kind="conv")
    closed = closing.conv_erosion(dilated, second, padding="same", kind="corr")
    parts = torch.autograd.grad(closed, (first, second), upstream)
    torch.testing.assert_close(parts[0] + parts[1], whole)
    assert parts[0].abs().max() > 0.1
    assert parts[1].abs().max() > 0.1


def test_one_kernel_closes_all_channels_alike():
    shared = flat_closing(3)
    shared.groups, shared.group_broadcasting = 4, True
    nn.init.normal_(shared.kernel.kernel)
    img = draw(1, 1, 9, 9).expand(1, 4, 9, 9)
    closed = shared(img)
    assert torch.equal(closed, closed[:, :1].expand(1, 4, 9, 9))


def test_the_stride_acts_in_both_steps():
    assert flat_closing(3, stride=2)(draw(1, 1, 16, 13)).shape == (1, 1, 4, 4)


def test_extra_arguments_reach_only_convolutions_that_need_them():
    class Plain(nn.Module):
        def forward(self, img, kernel, stride, padding, dilation, groups):
            return F.conv2d(img, kernel, None, stride, padding, dilation, groups)

    img, kernel = draw(1, 2, 6, 6), LearnedKernel2D(2, 3, 3).double()
    found = GenericConv(kernel, Plain(), 2, 1)(img)
    torch.testing.assert_close(found, F.conv2d(img, kernel(), None, 2, 1))
    with pytest.raises(TypeError, match="unexpected keyword argument 'kind'"):
        GenericConv(kernel, Plain(), kind="corr")(img)


@pytest.mark.parametrize("kind", ["conv", "corr"])
def test_the_kind_says_whether_the_kernel_is_mirrored(kind):
    img, kernel = draw(1, 2, 6, 6), LearnedKernel2D(2, 3, 3).double()
    weight = kernel().flip(2, 3) if kind == "conv" else kernel()
    for conv in (SubtractSemifield.linear().dynamic(), TorchLinearConv2D()):
        found = GenericConv(kernel, conv, padding="same", kind=kind)(img)
        torch.testing.assert_close(found, F.conv2d(img, weight, padding=1))


def test_what_is_not_the_default_is_shown():
    conv = SelectSemifield.tropical_max().lazy_fixed()
    plain = GenericConv(LearnedKernel2D(1, 2, 3), conv)
    assert plain.extra_repr() == ""
    assert repr(plain) == (
        "GenericConv(\n  (kernel): LearnedKernel2D(1, 2, kernel_size=3)\n"
        "  (conv): FixedSemifieldConv(SelectSemifield _tropical_max)\n)"
    )
    full = GenericConv(LearnedKernel2D(1, 2, 3), conv, 2, "same", (1, 2), 5, True, "corr")
    assert full.extra_repr() == (
        "padding=same, stride=2, dilation=(1, 2), groups=5, group_broadcasting=True, kind=corr"
    )
    assert flat_closing(3, 5).extra_repr() == "padding=same, groups=5"


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))]
)
def test_modules_travel(copied):
    dilation = SelectSemifield.tropical_max().dynamic()
    soft = SubtractSemifield.log(-2.0).dynamic()
    closing = GenericClosing(QuadraticKernelCholesky2D(1, 2, 3), dilation, soft, 1, "same", 1, 2)
    img = draw(1, 2, 7, 7).float()
    assert torch.equal(copied(closing)(img), closing(img))


def test_state_dicts_hold_the_kernel_alone_and_make_the_same_module():
    first = GenericConv(
        QuadraticKernelSpectral2D(1, 2, 3), SelectSemifield.tropical_max().dynamic()
    )
    second = copy.deepcopy(first)
    nn.init.normal_(second.kernel.covs.theta)
    img = draw(1, 1, 6, 6).float()
    assert not torch.equal(first(img), second(img))
    names = ["kernel._pos_grid", "kernel.covs.theta", "kernel.covs.log_std"]
    assert list(first.state_dict()) == names
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(img), second(img))


def test_a_learned_closing_fills_the_holes_it_is_shown():
    """A few steps of training bring the output nearer to the target."""
    torch.manual_seed(0)
    target = torch.zeros(4, 1, 24, 24)
    target[:, :, 6:18, 6:18] = 1.0
    holes = target * (torch.rand_like(target) > 0.3)
    kernel = QuadraticKernelCholesky2D(1, 1, 5, {"var": 2.0})
    dilation = SelectSemifield.tropical_max().dynamic()
    erosion = SelectSemifield.tropical_min_negated().dynamic()
    closing = GenericClosing(kernel, dilation, erosion, padding="same")
    optimizer = torch.optim.Adam(closing.parameters(), lr=0.1)
    losses = []
    for _ in range(20):
        loss = F.mse_loss(closing(holes), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of what it does itself
@pytest.mark.parametrize(
    ("conv", "is_whole"),
    [
        (BroadcastSemifield.tropical_max(), True),
        (BroadcastSemifield.log(2.0), True),
        (SelectSemifield.tropical_max(), False),
        (SubtractSemifield.log(2.0), False),
    ],
    ids=["broadcast max", "broadcast log", "select", "subtract"],
)
def test_convolutions_can_be_compiled(conv, is_whole):
    """Broadcasting as one graph; what has a loop over taps by a break in the graph."""
    layer = GenericConv(QuadraticKernelIso2D(1, 2, 3), conv.dynamic(), padding="same", groups=2)
    x = torch.rand(1, 2, 6, 5)
    compiled = torch.compile(layer, backend="eager", fullgraph=is_whole)
    torch.testing.assert_close(compiled(x).detach(), layer(x).detach())
