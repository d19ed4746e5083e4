"""Modules that combine a kernel and a convolution: `GenericConv` and `GenericClosing`."""

from typing import Any

from torch import Tensor, nn

from msdtool.ops.semifield.geometry import Kind, Padding, PerAxis


class GenericConv(nn.Module):
    """A convolution of any kind with a kernel of any kind.

    Args:
        kernel: module whose forward takes no arguments and returns the kernel [O, C/groups, *K].
        conv: module that takes (image, kernel) and the arguments below as keywords, such as
            ``SelectSemifield.tropical_max().dynamic()``. ``group_broadcasting`` and ``kind`` are
            passed on only if they differ from the default.
        stride: for all spatial axes or for each.
        padding: P for every side; (P0, ...) for both sides of each axis; ((begin0, end0), ...);
            "valid" for none; "same" for an output of the image's size where the stride is 1. The
            border is filled with the semifield's zero.
        dilation: for all spatial axes or for each.
        groups: number of groups that the image's channels are split into.
        group_broadcasting: convolve every group with all kernels, not with its own share of them:
            with one kernel, all channels are treated alike.
        kind: "conv" mirrors the kernel, "corr" does not.

    Example:
        >>> kernel = QuadraticKernelSpectral2D(1, 5, 3)
        >>> dilation = SelectSemifield.tropical_max().lazy_fixed()
        >>> GenericConv(kernel, dilation, padding="same", stride=2, groups=5)
    """

    def __init__(
        self,
        kernel: nn.Module,
        conv: nn.Module,
        stride: PerAxis = 1,
        padding: Padding = 0,
        dilation: PerAxis = 1,
        groups: int = 1,
        group_broadcasting: bool = False,
        kind: Kind = "conv",
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.conv = conv
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        self.group_broadcasting = group_broadcasting
        self.kind = kind

    def forward(self, img: Tensor) -> Tensor:
        """Convolve [B, C, *space] to [B, C', *space'].

        Raises:
            ValueError: a shape or an argument does not fit.
        """
        return self.conv(img, self.kernel(), **_moves(self), **_extras(self))

    def extra_repr(self) -> str:
        """List the arguments that differ from the default."""
        return _describe(self)


class GenericClosing(nn.Module):
    """A morphological closing: a dilation followed by the erosion with the same kernel.

    The dilation mirrors the kernel and the erosion does not, so that they are adjoint. Each pads
    with its own zero, so that the result equals the closing of an unbounded image, cropped.
    Gradients reach the kernel through both. The stride acts twice.

    Args:
        kernel: module whose forward takes no arguments and returns the kernel [O, C/groups, *K].
        conv_dilation: such as ``SelectSemifield.tropical_max().dynamic()``.
        conv_erosion: such as ``SelectSemifield.tropical_min_negated().dynamic()``.
        stride, padding, dilation, groups, group_broadcasting: as for `GenericConv`, for both.

    Example:
        >>> kernel = QuadraticKernelCholesky2D(1, 5, 3)
        >>> dilation = SelectSemifield.tropical_max().lazy_fixed()
        >>> erosion = SelectSemifield.tropical_min_negated().lazy_fixed()
        >>> GenericClosing(kernel, dilation, erosion, padding="same", groups=5)
    """

    def __init__(
        self,
        kernel: nn.Module,
        conv_dilation: nn.Module,
        conv_erosion: nn.Module,
        stride: PerAxis = 1,
        padding: Padding = 0,
        dilation: PerAxis = 1,
        groups: int = 1,
        group_broadcasting: bool = False,
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.conv_dilation = conv_dilation
        self.conv_erosion = conv_erosion
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        self.group_broadcasting = group_broadcasting

    def forward(self, img: Tensor) -> Tensor:
        """Close [B, C, *space] to [B, C', *space'].

        Raises:
            ValueError: a shape or an argument does not fit.
        """
        kernel = self.kernel()
        arguments = {**_moves(self), **_extras(self)}
        dilated = self.conv_dilation(img, kernel, **arguments, kind="conv")
        return self.conv_erosion(dilated, kernel, **arguments, kind="corr")

    def extra_repr(self) -> str:
        """List the arguments that differ from the default."""
        return _describe(self)


DEFAULTS: dict[str, object] = {
    "padding": 0,
    "stride": 1,
    "dilation": 1,
    "groups": 1,
    "group_broadcasting": False,
    "kind": "conv",
}


def _moves(module: nn.Module) -> dict[str, Any]:
    return {name: getattr(module, name) for name in ("dilation", "padding", "stride", "groups")}


def _extras(module: nn.Module) -> dict[str, Any]:
    """Arguments that not every convolution accepts."""
    names = ("group_broadcasting", "kind")
    return {
        name: getattr(module, name)
        for name in names
        if getattr(module, name, DEFAULTS[name]) != DEFAULTS[name]
    }


def _describe(module: nn.Module) -> str:
    values = {name: getattr(module, name, default) for name, default in DEFAULTS.items()}
    return ", ".join(f"{name}={value}" for name, value in values.items() if value != DEFAULTS[name])
