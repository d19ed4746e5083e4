"""The public functions of semifield convolutions, which choose the implementation.

Shapes: B batch, C channels, *space one or more
spatial axes, O output channels of the kernel.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from msdtool.ops.checks import check_impl, check_same_kind
from msdtool.ops.cuda.launcher import preferred, require
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
from msdtool.ops.semifield.gpu import convolve_by_kernels, find_lack
from msdtool.ops.semifield.linear import CONVOLUTIONS, linear_conv
from msdtool.ops.semifield.operations import (
    BroadcastOperations,
    SelectOperations,
    SubtractOperations,
)
from msdtool.ops.semifield.select import select_by_terms
from msdtool.ops.semifield.subtract import subtract_by_terms


@dataclass(frozen=True)
class Convolution:
    """How a kernel moves over an image.

    Args:
        stride: for all spatial axes or for each.
        padding: see `parse_padding`.
        dilation: for all spatial axes or for each.
        groups: number of groups that the image's channels are split into.
        group_broadcasting: convolve every group with all kernels, not with its own share of them.
        kind: "conv" mirrors the kernel, "corr" does not.
    """

    stride: PerAxis = 1
    padding: Padding = 0
    dilation: PerAxis = 1
    groups: int = 1
    group_broadcasting: bool = False
    kind: Kind = "conv"

    def prepare(self, img: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor, Geometry]:
        """Check an image and a kernel; return both in at least float32, and the geometry.

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

    It needs memory for the number of terms of each sum times the output, and several times that in
    the backward pass.

    Args:
        img: [B, C, *space], floating point.
        kernel: [O, C/groups, *K], dtype and device of the image.
        semifield: its functions.
        convolution: how the kernel moves.
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

    The terms are compared channel by channel, then tap by tap in row-major order; terms outside
    the image are skipped. Only the winner receives a gradient. Where no term beats the semifield's
    zero, the result is that zero and no gradient flows.

    Args:
        img, kernel, semifield, convolution: as for `broadcast_conv`.
        impl: "cuda" runs kernels on a GPU and needs the semifield's CUDA expressions; "torch" is
            plain torch; both store the winner's number besides input and output. "reference"
            unfolds; "auto" is the fastest.

    Returns:
        [B, O, *space'], O times ``groups`` with group broadcasting.

    Raises:
        ValueError: a shape, a dtype or an argument does not fit.
        KernelError: "cuda" is requested where kernels cannot run.
    """
    computations = {
        "cuda": convolve_by_kernels,
        "torch": select_by_terms,
        "reference": reference.select_conv,
    }
    return _convolve(img, kernel, semifield, convolution, impl, computations)


def subtract_conv(
    img: Tensor,
    kernel: Tensor,
    semifield: SubtractOperations,
    convolution: Convolution,
    impl: str = "auto",
) -> Tensor:
    """Convolve where the sum can be undone term by term; terms outside the image are skipped.

    Args:
        img, kernel, semifield, convolution: as for `broadcast_conv`.
        impl: "cuda" runs kernels on a GPU and needs the semifield's CUDA expressions; "linear" uses
            torch's linear convolution where the semifield has a ``linear_form`` that is accurate
            for these values, and otherwise "torch", which is plain torch; all store nothing besides
            input and output. "reference" unfolds; "auto" is the fastest.

    Returns:
        [B, O, *space'], O times ``groups`` with group broadcasting.

    Raises:
        ValueError: a shape, a dtype or an argument does not fit.
        KernelError: "cuda" is requested where kernels cannot run.
    """
    computations = {
        "cuda": convolve_by_kernels,
        "linear": subtract_by_linear,
        "torch": subtract_by_terms,
        "reference": reference.subtract_conv,
    }
    return _convolve(img, kernel, semifield, convolution, impl, computations)


def subtract_by_linear(
    img: Tensor, kernel: Tensor, semifield: SubtractOperations, geometry: Geometry
) -> Tensor:
    """Convolve by the semifield's linear form where it has one, otherwise term by term."""
    if semifield.linear_form is not None and geometry.ndim in CONVOLUTIONS:
        conv = partial(linear_conv, geometry=geometry)
        output = semifield.linear_form(img, kernel, conv)
        if output is not None:
            return output
    return subtract_by_terms(img, kernel, semifield, geometry)


def _convolve(
    img: Tensor,
    kernel: Tensor,
    semifield: SelectOperations | SubtractOperations,
    convolution: Convolution,
    impl: str,
    computations: Mapping[str, Callable[..., Tensor]],
) -> Tensor:
    """Convolve in at least float32; return the image's dtype."""
    wide, kernel, geometry = convolution.prepare(img, kernel)
    compute = _choose(impl, computations, wide, semifield, geometry)
    return compute(wide, kernel, semifield, geometry).to(img.dtype)


def _choose(
    impl: str,
    computations: Mapping[str, Callable[..., Tensor]],
    img: Tensor,
    semifield: SelectOperations | SubtractOperations,
    geometry: Geometry,
) -> Callable[..., Tensor]:
    """Return the computation of this name; for "auto", the fastest that is possible."""
    check_impl(impl, ("auto", *computations))
    lack = find_lack(semifield, geometry, len(img))
    if impl == "auto":
        if not lack and preferred(img.device):
            return computations["cuda"]
        # On a GPU, TF32 would lose the digits that the linear form relies on.
        linear = "linear" in computations and img.is_cpu
        return computations["linear" if linear else "torch"]
    if impl == "cuda":
        if lack:
            raise ValueError(f"{lack}; impl='torch' computes the same")
        require(impl, img.device)
    return computations[impl]
