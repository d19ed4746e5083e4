"""Residual blocks and channel gates."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from msdtool.nn.layers.attention import SimpleSelfAttention
from msdtool.nn.layers.containers import ProdLayer, SequentialEx
from msdtool.nn.layers.convolution import Activation, ConvLayer
from msdtool.nn.layers.norms import NormType
from msdtool.nn.layers.pooling import AdaptiveAvgPool, AvgPool, Size

ZERO_TYPES = {
    NormType.Batch: NormType.BatchZero,
    NormType.Instance: NormType.InstanceZero,
}


class SEModule(SequentialEx):
    """Squeeze and excitation: scale each channel by a gate computed from all channels' means.

    Hu et al., CVPR 2018. The bottleneck has ceil((ch//reduction)/8)*8 channels, at least 8.

    Args:
        ch: channels.
        reduction: factor by which the bottleneck reduces the number of channels.
        act_cls: activation in the bottleneck.
        ndim: number of spatial axes.

    State-dict names: ``layers.1.0.*``, ``layers.2.0.*``.
    """

    def __init__(
        self, ch: int, reduction: int, act_cls: Activation | None = nn.ReLU, ndim: int = 2
    ) -> None:
        squeezed = max(1, math.ceil(ch // reduction / 8)) * 8
        super().__init__(
            AdaptiveAvgPool(1, ndim),
            ConvLayer(ch, squeezed, ks=1, ndim=ndim, norm_type=None, act_cls=act_cls),
            ConvLayer(squeezed, ch, ks=1, ndim=ndim, norm_type=None, act_cls=nn.Sigmoid),
            ProdLayer(),
        )


class ResBlock(nn.Module):
    """A residual block: act(convolutions(x) + shortcut(x)).

    After He et al., CVPR 2018, "Bag of tricks" (arXiv:1812.01187, fig. 2): the shortcut pools
    before its 1x1 convolution, and the last normalisation has an initial weight of zero.

    Args:
        expansion: with 1, two convolutions of size ``ks``; above 1, one between two of size 1, and
            the block maps ni*expansion channels to nf*expansion.
        ni: input channels, before ``expansion``.
        nf: output channels, before ``expansion``.
        stride: of the convolution of size ``ks``, the first if there are two.
        groups: of the same convolution.
        reduction: append an `SEModule` with this reduction.
        nh1: channels after the first convolution; None: ``nh2``. Only used if ``expansion`` > 1.
        nh2: channels before the last convolution; None: ``nf``.
        dw: depthwise: one group per input channel of the convolution.
        g2: groups of the last convolution.
        sa: append a `SimpleSelfAttention`.
        sym: of the `SimpleSelfAttention`.
        norm_type: of all convolutions.
        act_cls: activation between convolutions and after the sum, or None.
        ndim: number of spatial axes.
        ks: size of the kernel.
        pool: makes the layer that downsamples the shortcut by ``stride``.
        pool_first: in the shortcut, pool before the convolution.
        padding: of the convolutions of size ``ks``.
        **kwargs: of all convolutions; see `ConvLayer`.

    State-dict names: ``convpath.{i}.*``, ``idpath.{i}.*``.
    """

    def __init__(
        self,
        expansion: int,
        ni: int,
        nf: int,
        stride: int = 1,
        groups: int = 1,
        reduction: int | None = None,
        nh1: int | None = None,
        nh2: int | None = None,
        dw: bool = False,
        g2: int = 1,
        sa: bool = False,
        sym: bool = False,
        norm_type: NormType | None = NormType.Batch,
        act_cls: Activation | None = nn.ReLU,
        ndim: int = 2,
        ks: Size = 3,
        pool: Callable[..., nn.Module] = AvgPool,
        pool_first: bool = True,
        padding: Size | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        nh2 = nf if nh2 is None else nh2
        nh1 = nh2 if nh1 is None else nh1
        ni, nf = ni * expansion, nf * expansion
        inner = {"norm_type": norm_type, "act_cls": act_cls, "ndim": ndim, **kwargs}
        last = {**inner, "act_cls": None, "groups": g2}
        if norm_type is not None:
            last["norm_type"] = ZERO_TYPES.get(norm_type, norm_type)
        spatial: dict[str, Any] = {"ks": ks, "padding": padding}
        strided = {**inner, **spatial, "stride": stride}
        if expansion == 1:
            path: list[nn.Module] = [
                ConvLayer(ni, nh2, groups=ni if dw else groups, **strided),
                ConvLayer(nh2, nf, **spatial, **last),
            ]
        else:
            path = [
                ConvLayer(ni, nh1, ks=1, **inner),
                ConvLayer(nh1, nh2, groups=nh1 if dw else groups, **strided),
                ConvLayer(nh2, nf, ks=1, **last),
            ]
        if reduction:
            path.append(SEModule(nf, reduction, act_cls, ndim))
        if sa:
            path.append(SimpleSelfAttention(nf, ks=1, sym=sym))
        self.convpath = nn.Sequential(*path)

        shortcut: list[nn.Module] = []
        if ni != nf:
            shortcut.append(ConvLayer(ni, nf, ks=1, **{**inner, "act_cls": None}))
        if stride != 1:
            # Rounding up matches the convolution on odd sizes.
            pooling = pool(stride, ndim=ndim, ceil_mode=True)
            shortcut.insert(0 if pool_first else len(shortcut), pooling)
        self.idpath = nn.Sequential(*shortcut)
        self.act = nn.Identity() if act_cls is None else act_cls()

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, ni*expansion, *space] to [B, nf*expansion, *space/stride]."""
        output: Tensor = self.act(self.convpath(input) + self.idpath(input))
        return output


def SEBlock(
    expansion: int,
    ni: int,
    nf: int,
    groups: int = 1,
    reduction: int = 16,
    stride: int = 1,
    **kwargs: Any,
) -> ResBlock:
    """Return a `ResBlock` with squeeze and excitation (Hu et al., CVPR 2018)."""
    return ResBlock(
        expansion,
        ni,
        nf,
        stride=stride,
        groups=groups,
        reduction=reduction,
        nh1=nf * 2,
        nh2=nf * expansion,
        **kwargs,
    )


def SEResNeXtBlock(
    expansion: int,
    ni: int,
    nf: int,
    groups: int = 32,
    reduction: int = 16,
    stride: int = 1,
    base_width: int = 4,
    **kwargs: Any,
) -> ResBlock:
    """Return a `ResBlock` of grouped convolutions with squeeze and excitation.

    Xie et al., CVPR 2017: ``groups`` paths of floor(nf * base_width / 64) channels.
    """
    width = math.floor(nf * base_width / 64) * groups
    return ResBlock(
        expansion,
        ni,
        nf,
        stride=stride,
        groups=groups,
        reduction=reduction,
        nh2=width,
        **kwargs,
    )


def SeparableBlock(
    expansion: int,
    ni: int,
    nf: int,
    reduction: int = 16,
    stride: int = 1,
    base_width: int = 4,
    **kwargs: Any,
) -> ResBlock:
    """Return a `ResBlock` of depthwise convolutions with squeeze and excitation.

    ``base_width`` has no effect; it makes this function interchangeable with `SEResNeXtBlock`.
    """
    del base_width
    return ResBlock(
        expansion, ni, nf, stride=stride, reduction=reduction, nh2=nf * 2, dw=True, **kwargs
    )
