"""torch's own convolution and pooling with the conventions of `GenericConv`."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from msdtool.ops.semifield import Convolution
from msdtool.ops.semifield.broadcast import pad_image
from msdtool.ops.semifield.geometry import Kind, Padding, PerAxis, plan_convolution
from msdtool.ops.semifield.linear import linear_conv


class TorchLinearConv2D(nn.Module):
    """torch's ordinary convolution for `GenericConv`; it has no parameters."""

    def forward(
        self,
        img: Tensor,
        kernel: Tensor,
        stride: PerAxis = 1,
        padding: Padding = 0,
        dilation: PerAxis = 1,
        groups: int = 1,
        group_broadcasting: bool = False,
        kind: Kind = "conv",
    ) -> Tensor:
        """Convolve [B, C, H, W] with a kernel [O, C/groups, kh, kw]; arguments as `GenericConv`'s.

        Raises:
            ValueError: a shape or an argument does not fit.
        """
        _check_2d(img)
        convolution = Convolution(stride, padding, dilation, groups, group_broadcasting, kind)
        return linear_conv(*convolution.prepare(img, kernel)).to(img.dtype)


class TorchMaxPool2D(nn.Module):
    """torch's maximum pooling with the paddings of `GenericConv`, -inf on every side.

    Args:
        kernel_size: for both axes or for each.
        stride: for both axes or for each; None for the kernel's size.
        padding: as for `GenericConv`.
        dilation: for both axes or for each.
    """

    def __init__(
        self,
        kernel_size: PerAxis,
        stride: PerAxis | None = None,
        padding: Padding = 0,
        dilation: PerAxis = 1,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation

    def forward(self, img: Tensor) -> Tensor:
        """Pool [B, C, H, W] to [B, C, H', W'].

        Raises:
            ValueError: a shape or an argument does not fit.
        """
        _check_2d(img)
        size = self.kernel_size
        sizes = (size, size) if isinstance(size, int) else tuple(size)
        geometry = plan_convolution(
            img.shape, (1, img.shape[1], *sizes), self.stride, self.padding, self.dilation
        )
        padded = pad_image(img, -math.inf, geometry)
        return F.max_pool2d(padded, sizes, geometry.stride, 0, geometry.dilation)

    def extra_repr(self) -> str:
        """Describe the sizes as torch's module does."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}"
        )


def _check_2d(img: Tensor) -> None:
    if img.dim() != 4:
        raise ValueError(f"image has shape {tuple(img.shape)}; expected [B, C, H, W]")
