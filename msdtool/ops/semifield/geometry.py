"""Where a semifield convolution reads and writes: sizes, padding, and the pixels of each tap.

For an image [B, C, *space] and a kernel [O, C/groups, *kernel_size] with any number of spatial
axes, output pixel p of a channel of group g is the semifield sum, over the group's channels c and
the taps f, of

    img[b, g*C/groups + c, p*stride - pad_begin + f*dilation]  (x)  kernel[o, c, f].
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from types import EllipsisType
from typing import Literal, TypeGuard

from torch import Tensor

Kind = Literal["conv", "corr"]
PerAxis = int | Sequence[int]
# An index of the last axes of a tensor: (..., slice, slice).
Pixels = tuple[EllipsisType | slice, ...]
Padding = int | Sequence[int] | Sequence[Sequence[int]] | Literal["valid", "same"]


@dataclass(frozen=True)
class Geometry:
    """All sizes of a convolution except the batch size."""

    space: tuple[int, ...]
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    groups: int
    in_channels: int  # of one group
    out_channels: int  # of one group

    @property
    def out_space(self) -> tuple[int, ...]:
        """Spatial shape of the output."""
        return tuple(
            (size + begin + end - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, dilation, (begin, end) in zip(
                self.space, self.kernel_size, self.stride, self.dilation, self.pads, strict=True
            )
        )

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.space)

    @property
    def num_taps(self) -> int:
        """Number of pixels of the kernel."""
        return math.prod(self.kernel_size)

    @property
    def num_terms(self) -> int:
        """Number of terms in the sum of one output value."""
        return self.in_channels * self.num_taps

    @property
    def offsets(self) -> tuple[tuple[int, ...], ...]:
        """The taps f in row-major order."""
        return tuple(product(*(range(size) for size in self.kernel_size)))

    def tap_slices(self, tap: tuple[int, ...], rows: range) -> tuple[Pixels, Pixels] | None:
        """Return the output pixels whose tap lies inside the image, and the image pixels it reads.

        Args:
            tap: f.
            rows: restricts the output's first spatial axis; the slices of the output are relative
                to the first of these rows.

        Returns:
            Indices of the last axes of output and image, or None if there is no such pixel.
        """
        out_slices: list[slice] = []
        in_slices: list[slice] = []
        for axis, out_size in enumerate(self.out_space):
            stride = self.stride[axis]
            shift = tap[axis] * self.dilation[axis] - self.pads[axis][0]
            low = max(0, -(shift // stride))  # ceil(-shift / stride)
            high = min(out_size, (self.space[axis] - 1 - shift) // stride + 1)
            origin = 0
            if axis == 0:
                low, high, origin = max(low, rows.start), min(high, rows.stop), rows.start
            if low >= high:
                return None
            out_slices.append(slice(low - origin, high - origin))
            first = low * stride + shift
            in_slices.append(slice(first, first + (high - low - 1) * stride + 1, stride))
        return (..., *out_slices), (..., *in_slices)


def plan_convolution(
    img_shape: Sequence[int],
    kernel_shape: Sequence[int],
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    group_broadcasting: bool = False,
) -> Geometry:
    """Check the arguments of a convolution and normalise them.

    Args:
        img_shape: [B, C, *space], at least one spatial axis.
        kernel_shape: [O, C/groups, *kernel_size].
        stride: for all axes or for each.
        padding: see `parse_padding`.
        dilation: for all axes or for each.
        groups: number of groups that the image's channels are split into.
        group_broadcasting: convolve every group with all O kernels, not with O/groups of its own.

    Raises:
        ValueError: names the argument and the sizes that do not fit.
    """
    ndim = len(img_shape) - 2
    shapes = f"image {tuple(img_shape)} and kernel {tuple(kernel_shape)}"
    if ndim < 1:
        raise ValueError(f"image has shape {tuple(img_shape)}; expected [B, C, *space]")
    if len(kernel_shape) != len(img_shape):
        raise ValueError(
            f"{shapes} differ in their number of axes; an image with {ndim} spatial axes needs a "
            f"kernel with {ndim}"
        )
    if min(img_shape[1:]) < 1 or min(kernel_shape) < 1:
        raise ValueError(f"{shapes}: every size must be at least 1")
    stride = _per_axis("stride", stride, ndim)
    dilation = _per_axis("dilation", dilation, ndim)
    out_channels = _channels_per_group(img_shape, kernel_shape, groups, group_broadcasting)
    kernel_size = tuple(kernel_shape[2:])
    geometry = Geometry(
        tuple(img_shape[2:]),
        kernel_size,
        stride,
        dilation,
        parse_padding(padding, kernel_size, dilation),
        groups,
        kernel_shape[1],
        out_channels,
    )
    if min(geometry.out_space) < 1:
        raise ValueError(
            f"image of size {geometry.space} with padding {geometry.pads} has no room for a kernel "
            f"of size {kernel_size} and dilation {dilation}: the output would have size "
            f"{geometry.out_space}"
        )
    return geometry


def parse_padding(
    padding: Padding, kernel_size: Sequence[int], dilation: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Return the pixels to add before and after each spatial axis; negative numbers crop.

    Args:
        padding: P for every side; (P0, ...) for both sides of each axis; ((begin0, end0), ...);
            "valid" for none; "same" for an output of the image's size where the stride is 1. The
            odd pixel of an even kernel is added after. One entry applies to all axes.
        kernel_size: for each axis.
        dilation: for each axis.

    Raises:
        ValueError: ``padding`` has none of these forms.
    """
    ndim = len(kernel_size)
    if padding == "valid":
        return ((0, 0),) * ndim
    if padding == "same":
        return tuple(
            ((size - 1) // 2 * step, size // 2 * step)
            for size, step in zip(kernel_size, dilation, strict=True)
        )
    entries = [padding] if _is_int(padding) else padding
    if isinstance(entries, list | tuple) and len(entries) in (1, ndim):
        pads = [pair for pair in map(_pair, entries) if pair is not None]
        if len(pads) == len(entries):
            return tuple(pads * ndim if len(pads) == 1 else pads)
    raise ValueError(
        f"padding is {padding!r}; for {ndim} spatial axes expected an integer, {ndim} of "
        f'them, {ndim} pairs (begin, end), "valid" or "same"'
    )


def arrange_kernel(kernel: Tensor, groups: int, group_broadcasting: bool, kind: Kind) -> Tensor:
    """Mirror the kernel [O, C/groups, *K] for ``kind="conv"``; repeat it if groups share it.

    Returns:
        [out channels of all groups, C/groups, *K].

    Raises:
        ValueError: ``kind`` is neither.
    """
    if kind not in ("conv", "corr"):
        raise ValueError(f'kind is {kind!r}; allowed: "conv" (mirrored kernel) and "corr"')
    if kind == "conv":
        kernel = kernel.flip(tuple(range(2, kernel.dim())))
    if group_broadcasting and groups > 1:
        kernel = kernel.repeat(groups, *(1,) * (kernel.dim() - 1))
    return kernel


def _channels_per_group(
    img_shape: Sequence[int], kernel_shape: Sequence[int], groups: int, group_broadcasting: bool
) -> int:
    channels, kernels = img_shape[1], kernel_shape[0]
    if not _is_int(groups) or groups < 1:
        raise ValueError(f"groups is {groups!r}; expected a positive integer")
    if channels != groups * kernel_shape[1]:
        raise ValueError(
            f"image has {channels} channels, but the kernel {tuple(kernel_shape)} with groups="
            f"{groups} takes {groups} x {kernel_shape[1]} = {groups * kernel_shape[1]}"
        )
    if group_broadcasting:
        return kernels
    if kernels % groups:
        raise ValueError(f"the kernel's {kernels} output channels do not divide by groups={groups}")
    return kernels // groups


def _per_axis(name: str, value: PerAxis, ndim: int) -> tuple[int, ...]:
    entries = [value] if _is_int(value) else value
    if (
        isinstance(entries, list | tuple)
        and len(entries) in (1, ndim)
        and all(_is_int(entry) and entry > 0 for entry in entries)
    ):
        return tuple(entries) * (ndim if len(entries) == 1 else 1)
    raise ValueError(
        f"{name} is {value!r}; expected a positive integer, or {ndim} of them for "
        f"{ndim} spatial axes"
    )


def _pair(entry: object) -> tuple[int, int] | None:
    if _is_int(entry):
        return entry, entry
    if isinstance(entry, list | tuple) and len(entry) == 2 and all(map(_is_int, entry)):
        return entry[0], entry[1]
    return None


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
