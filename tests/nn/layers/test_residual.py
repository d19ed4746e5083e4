import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from msdtool.nn import layers
from msdtool.nn.layers import NormType


@pytest.mark.parametrize(("ch", "reduction", "width"), [(16, 2, 8), (48, 4, 16), (8, 16, 8)])
def test_squeezed_width_is_a_multiple_of_eight(ch, reduction, width):
    module = layers.SEModule(ch, reduction)
    assert module[1][0].out_channels == width


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_channel_gates_lie_between_zero_and_one(ndim):
    x = torch.rand(2, 8, *(4,) * ndim) + 1
    ratio = layers.SEModule(8, 4, ndim=ndim)(x) / x
    assert ((ratio > 0) & (ratio < 1)).all()
    torch.testing.assert_close(ratio, ratio[..., :1].expand_as(ratio))


@settings(deadline=None, max_examples=25)
@given(
    expansion=st.sampled_from([1, 4]),
    ndim=st.integers(1, 3),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    ks=st.sampled_from([1, 3, 5]),
    size=st.integers(6, 9),
    norm=st.sampled_from([None, *NormType]),
    options=st.fixed_dictionaries(
        {},
        optional={
            "reduction": st.just(4),
            "sa": st.just(True),
            "dw": st.just(True),
            "pool_first": st.just(False),
            "act_cls": st.sampled_from([None, nn.SiLU]),
            "pool": st.just(layers.MaxPool),
        },
    ),
)
def test_blocks_of_any_kind_have_shortcuts_that_fit(
    expansion, ndim, stride, dilation, ks, size, norm, options
):
    if options.get("dw") and expansion == 1:
        options["nh2"] = 4
    block = layers.ResBlock(
        expansion,
        2,
        3,
        stride,
        ndim=ndim,
        dilation=dilation,
        ks=ks,
        norm_type=norm,
        **options,
    )
    x = torch.randn(2, 2 * expansion, *(size,) * ndim)
    sides = [-(-size // stride)] * ndim
    assert block(x).shape == (2, 3 * expansion, *sides)


@pytest.mark.parametrize("norm", [NormType.Batch, NormType.Instance])
def test_block_starts_as_its_shortcut(norm):
    block = layers.ResBlock(1, 4, 4, norm_type=norm, act_cls=None)
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(block(x), x + 1e-3)


def test_shortcut_has_the_norm_of_the_block():
    block = layers.ResBlock(1, 2, 4, norm_type=NormType.Instance)
    assert isinstance(block.idpath[0][1], nn.InstanceNorm2d)
    assert len(layers.ResBlock(1, 2, 4, norm_type=None).idpath[0]) == 1


def test_padding_is_for_the_wide_convolutions():
    block = layers.ResBlock(4, 1, 1, ks=5, padding=2)
    assert [part[0].padding for part in block.convpath] == [(0, 0), (2, 2), (0, 0)]


def test_named_blocks_have_the_widths_of_their_papers():
    def channels(block):
        return [m.out_channels for m in block.convpath.modules() if isinstance(m, nn.Conv2d)]

    def groups(block):
        return [part[0].groups for part in block.convpath if isinstance(part, layers.ConvLayer)]

    assert channels(layers.SEBlock(4, 64, 64))[:3] == [128, 256, 256]
    resnext = layers.SEResNeXtBlock(4, 64, 64)
    assert channels(resnext)[:3] == [128, 128, 256]
    assert groups(resnext) == [1, 32, 1]
    separable = layers.SeparableBlock(4, 16, 16)
    assert channels(separable)[:3] == [32, 32, 64]
    assert groups(separable) == [1, 32, 1]
    assert layers.SEBlock(1, 8, 8)(torch.randn(2, 8, 5, 5)).shape == (2, 8, 5, 5)
