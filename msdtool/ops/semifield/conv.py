"""The public functions of semifield convolutions, which pick who computes them.

All of them take the arguments of `Convolution`; shapes: B batch, C channels, *space one or more
spatial axes, O output channels of the kernel.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from msdtool.ops.checks import check_same_kind
from msdtool.ops.kernels import preferred, require
from msdtool.ops.semifield import reference
from msdtool.ops.semifield.broadcast import broadcast_by_windows
from msdtool.ops.semifield.geometry import (
    Geometry,
    Kind,
    Padding,
    PerAxis,
    arrange_kernel,
    plan_convolution,
)
from msdtool.ops.semifield.gpu import find_lack, select_by_kernels, subtract_by_kernels
from msdtool.ops.semifield.linear import CONVOLUTIONS, linear_conv
from msdtool.ops.semifield.operations import (
    BroadcastOperations,
    SelectOperations,
    SubtractOperations,
)
from msdtool.ops.semifield.select import select_by_taps
from msdtool.ops.semifield.subtract import subtract_by_taps


@dataclass(frozen=True)
class Convolution:
    """How a kernel is moved over an image.

    Args:
        stride: for all spatial axes or for each.
        padding: see `parse_padding`.
        dilation: for all spatial axes or for each.
        groups: the image's channels are split into so many groups.
        group_broadcasting: every group is met by all kernels, instead of its own share of them.
        kind: "conv" mirrors the kernel, "corr" does not.
    """

    stride: PerAxis = 1
    padding: Padding = 0
    dilation: PerAxis = 1
    groups: int = 1
    group_broadcasting: bool = False
    kind: Kind = "conv"

    def prepare(self, img: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor, Geometry]:
        """Check an image and a kernel; return them in at least float32, and all sizes.

        Raises:
            ValueError: names the argument and the sizes that do not fit.
        """
        geometry = plan_convolution(
            img.shape,
            kernel.shape,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.group_broadcasting,
        )
        check_same_kind(img, (kernel,))
        kernel = arrange_kernel(kernel, self.groups, self.group_broadcasting, self.kind)
        dtype = torch.promote_types(img.dtype, torch.float32)
        return img.to(dtype), kernel.to(dtype), geometry


def broadcast_conv(
    img: Tensor,
    kernel: Tensor,
    semifield: BroadcastOperations,
    convolution: Convolution,
    unfold_copy: bool = False,
) -> Tensor:
    """Convolve by broadcasting; autograd differentiates the semifield's own functions.

    Its memory is the number of terms of each sum times the output, in the backward pass several
    times that.

    Args:
        img: [B, C, *space], floating point.
        kernel: [O, C/groups, *K], dtype and device of the image.
        semifield: its functions.
        convolution: how the kernel is moved.
        unfold_copy: copy the windows with `torch.nn.functional.unfold` first; 2D only.

    Returns:
        [B, O, *space'], O times ``groups`` with group broadcasting.

    Raises:
        ValueError: a shape, a dtype or an argument does not fit.
    """
    wide, kernel, geometry = convolution.prepare(img, kernel)
    return broadcast_by_windows(wide, kernel, semifield, geometry, unfold_copy).to(img.dtype)


def select_conv(
    img: Tensor,
    kernel: Tensor,
    semifield: SelectOperations,
    convolution: Convolution,
    impl: str = "auto",
) -> Tensor:
    """Convolve where the sum is one of its terms; of equal terms, the first wins.

    The terms are looked at channel by channel and then tap by tap in row-major order, those
    outside of the image not at all. The gradient goes to the winner alone. Where no term beats
    the semifield's zero the result is that, and there is no gradient.

    Args:
        img, kernel, semifield, convolution: as for `broadcast_conv`.
        impl: "cuda" runs kernels on a GPU, given the semifield's CUDA expressions; "taps" is
            plain torch; both keep the winner's number beside input and output. "reference"
            unfolds; "auto" takes the fastest.

    Returns:
        [B, O, *space'], O times ``groups`` with group broadcasting.

    Raises:
        ValueError: a shape, a dtype or an argument does not fit.
        KernelError: "cuda" is asked for where kernels cannot run.
    """
    computations = {
        "cuda": select_by_kernels,
        "taps": select_by_taps,
        "reference": reference.select_conv,
    }
    wide, kernel, geometry = convolution.prepare(img, kernel)
    compute = _choose(impl, computations, wide, semifield, geometry)
    output: Tensor = compute(wide, kernel, semifield, geometry)
    return output.to(img.dtype)


def subtract_conv(
    img: Tensor,
    kernel: Tensor,
    semifield: SubtractOperations,
    convolution: Convolution,
    impl: str = "auto",
) -> Tensor:
    """Convolve where the sum can be undone term by term; terms outside of the image are skipped.

    Args:
        img, kernel, semifield, convolution: as for `broadcast_conv`.
        impl: "cuda" runs kernels on a GPU, given the semifield's CUDA expressions; "linear" goes
            by way of torch's linear convolution where the semifield has a ``linear_form`` that is
            accurate for these values, and else as "taps", which is plain torch; all keep nothing
            beside input and output. "reference" unfolds; "auto" takes the fastest.

    Returns:
        [B, O, *space'], O times ``groups`` with group broadcasting.

    Raises:
        ValueError: a shape, a dtype or an argument does not fit.
        KernelError: "cuda" is asked for where kernels cannot run.
    """
    computations = {
        "cuda": subtract_by_kernels,
        "linear": subtract_by_linear,
        "taps": subtract_by_taps,
        "reference": reference.subtract_conv,
    }
    wide, kernel, geometry = convolution.prepare(img, kernel)
    compute = _choose(impl, computations, wide, semifield, geometry)
    output: Tensor = compute(wide, kernel, semifield, geometry)
    return output.to(img.dtype)


def subtract_by_linear(
    img: Tensor, kernel: Tensor, semifield: SubtractOperations, geometry: Geometry
) -> Tensor:
    """Convolve by the semifield's linear form where there is one, and term by term elsewhere."""
    if semifield.linear_form is not None and geometry.ndim in CONVOLUTIONS:
        conv = partial(linear_conv, geometry=geometry)
        output = semifield.linear_form(img, kernel, conv)
        if output is not None:
            return output
    return subtract_by_taps(img, kernel, semifield, geometry)


def _choose(
    impl: str,
    computations: Mapping[str, Callable[..., Any]],
    img: Tensor,
    semifield: SelectOperations | SubtractOperations,
    geometry: Geometry,
) -> Callable[..., Any]:
    """Pick the computation of this name, or the fastest that can do it."""
    lack = find_lack(semifield, geometry, len(img))
    if impl == "auto":
        if not lack and preferred(img.device):
            return computations["cuda"]
        # On a GPU, TF32 would cost the digits that the linear form relies on.
        linear = "linear" in computations and img.is_cpu
        return computations["linear" if linear else "taps"]
    if impl not in computations:
        raise ValueError(f"impl is {impl!r}; allowed: auto, {', '.join(computations)}")
    if impl == "cuda":
        if lack:
            raise ValueError(f"{lack}; impl='taps' computes the same")
        require(impl, img.device)
    return computations[impl]
