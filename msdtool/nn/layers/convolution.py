"""Convolutions with normalisation and activation.

Shapes: B batch, C channels, *space one, two or three spatial axes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from msdtool.nn.layers.basic import by_ndim
from msdtool.nn.layers.initialisation import Init, icnr_init, init_linear
from msdtool.nn.layers.norms import (
    BATCH_TYPES,
    INSTANCE_TYPES,
    BatchNorm,
    InstanceNorm,
    NormType,
)
from msdtool.nn.layers.pooling import PoolFlatten, Size

Activation = Callable[[], nn.Module]


class ConvLayer(nn.Sequential):
    """A convolution, a normalisation and an activation.

    Args:
        ni: input channels.
        nf: output channels.
        ks: kernel size, one number or one per axis.
        stride: of the convolution.
        padding: None preserves the size: dilation*(ks - 1)//2, or 0 if ``transpose``.
        bias: None: only without a batch or instance normalisation, which has its own bias.
        ndim: number of spatial axes, 1 to 3.
        norm_type: None for no normalisation. Weight and Spectral normalise the kernel with
            torch's parametrizations.
        bn_1st: normalisation before the activation.
        act_cls: makes the activation; None for no activation.
        transpose: use a transposed convolution.
        init: see `init_linear`.
        xtra: a module to append.
        bias_std: see `init_linear`.
        dilation: of the convolution.
        groups: of the convolution.
        padding_mode: of the convolution.
        device: of the parameters.
        dtype: of the parameters.

    State-dict names: ``0.*`` the convolution, ``1.*`` and ``2.*`` the following layers.
    """

    def __init__(
        self,
        ni: int,
        nf: int,
        ks: Size = 3,
        stride: Size = 1,
        padding: Size | None = None,
        bias: bool | None = None,
        ndim: int = 2,
        norm_type: NormType | None = NormType.Batch,
        bn_1st: bool = True,
        act_cls: Activation | None = nn.ReLU,
        transpose: bool = False,
        init: str | Init = "auto",
        xtra: nn.Module | None = None,
        bias_std: float | None = 0.01,
        dilation: Size = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        norm: nn.Module | None = None
        if norm_type in BATCH_TYPES:
            norm = BatchNorm(nf, ndim, norm_type, **place)
        elif norm_type in INSTANCE_TYPES:
            norm = InstanceNorm(nf, ndim, norm_type, **place)
        convolution = _convolution_class(ndim, transpose)(
            ni,
            nf,
            ks,
            stride=stride,
            padding=same_padding(ks, dilation, ndim, transpose) if padding is None else padding,
            bias=norm is None if bias is None else bias,
            dilation=dilation,
            groups=groups,
            padding_mode=padding_mode,
            **place,
        )
        activation = None if act_cls is None else act_cls()
        init_linear(convolution, activation, init, bias_std)
        if norm_type is NormType.Weight:
            parametrizations.weight_norm(convolution)
        elif norm_type is NormType.Spectral:
            parametrizations.spectral_norm(convolution)
        following = [norm, activation] if bn_1st else [activation, norm]
        super().__init__(convolution, *(m for m in (*following, xtra) if m is not None))


def _convolution_class(ndim: int, transpose: bool) -> Callable[..., nn.Module]:
    straight = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    return by_ndim(transposed, ndim) if transpose else by_ndim(straight, ndim)


def same_padding(ks: Size, dilation: Size, ndim: int, transpose: bool) -> tuple[int, ...]:
    """Return the padding that preserves the size at stride 1 (odd kernels); 0 if ``transpose``."""
    sizes = (ks,) * ndim if isinstance(ks, int) else ks
    dilations = (dilation,) * ndim if isinstance(dilation, int) else dilation
    if transpose:
        return (0,) * ndim
    return tuple(d * (k - 1) // 2 for k, d in zip(sizes, dilations, strict=True))


class PixelShuffle_ICNR(nn.Sequential):
    """Upsampling of images by a 1x1 convolution and a pixel shuffle (Shi et al., CVPR 2016).

    [B, ni, H, W] becomes [B, nf, scale*H, scale*W]. Initially all pixels of a block are equal; see
    `icnr_init`.

    Args:
        ni: input channels.
        nf: output channels; None: ``ni``.
        scale: factor by which both sides grow.
        blur: average each pixel with those above and to the left, which removes the remaining
            checkerboard artefacts (Sugawara et al., 2018, arXiv:1806.02658).
        norm_type: of the convolution.
        act_cls: of the convolution; None for no activation, as at the end of a regression.

    State-dict names: ``0.0.*`` the convolution.
    """

    def __init__(
        self,
        ni: int,
        nf: int | None = None,
        scale: int = 2,
        blur: bool = False,
        norm_type: NormType | None = NormType.Weight,
        act_cls: Activation | None = nn.ReLU,
    ) -> None:
        def fill(weight: Tensor) -> None:
            with torch.no_grad():
                weight.copy_(icnr_init(weight, scale))

        filters = (ni if nf is None else nf) * scale**2
        # The biases of a block must be equal as well: they are 0.
        convolution = ConvLayer(
            ni, filters, ks=1, norm_type=norm_type, act_cls=act_cls, init=fill, bias_std=0
        )
        smooth = [nn.ReplicationPad2d((1, 0, 1, 0)), nn.AvgPool2d(2, stride=1)] if blur else []
        super().__init__(convolution, nn.PixelShuffle(scale), *smooth)


class SimpleCNN(nn.Sequential):
    """Convolutions of images, pooled to one number per channel: [B, C, H, W] to [B, filters[-1]].

    All convolutions are followed by a ReLU, all but the last optionally by batch normalisation.

    Args:
        filters: channels of the input and of each convolution.
        kernel_szs: of each convolution; None: 3.
        strides: of each convolution; None: 2.
        bn: use batch normalisation.

    Raises:
        ValueError: ``kernel_szs`` or ``strides`` does not have one entry less than ``filters``.
    """

    def __init__(
        self,
        filters: Sequence[int],
        kernel_szs: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
        bn: bool = True,
    ) -> None:
        count = len(filters) - 1
        kernels = [3] * count if kernel_szs is None else kernel_szs
        steps = [2] * count if strides is None else strides
        for name, values in (("kernel_szs", kernels), ("strides", steps)):
            if len(values) != count:
                raise ValueError(
                    f"{name} has {len(values)} entries; {len(filters)} filters need {count}"
                )
        convolutions = [
            ConvLayer(
                filters[i],
                filters[i + 1],
                kernels[i],
                stride=steps[i],
                norm_type=NormType.Batch if bn and i < count - 1 else None,
            )
            for i in range(count)
        ]
        super().__init__(*convolutions, PoolFlatten())
