"""Semifield convolutions by the kernels of ``semifield.cu``, for one to three spatial axes."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from msdtool.ops.cuda.launcher import Argument, launch
from msdtool.ops.cuda.sources import Source, source_for
from msdtool.ops.semifield.geometry import Geometry
from msdtool.ops.semifield.operations import SelectOperations, SubtractOperations
from msdtool.ops.semifield.select import index_dtype

MAX_AXES = 3
MAX_INT = 2**31 - 1
THREADS = 128  # as in kernels/semifield.cu; tests/kernels/test_constants.py
# The gradient of a kernel is summed by at least this many blocks, given enough pixels.
WANTED_BLOCKS = 2048
MIN_CHUNK = 4096
C_TYPES = {torch.uint8: "unsigned char", torch.int16: "short", torch.int32: "int"}


def find_lack(
    semifield: SelectOperations | SubtractOperations, geometry: Geometry, batch: int
) -> str | None:
    """Return why the kernels cannot compute a convolution, or None if they can."""
    if semifield.cuda is None:
        return "the semifield has no CUDA expressions"
    if geometry.ndim > MAX_AXES:
        return f"the kernels take at most {MAX_AXES} spatial axes; the image has {geometry.ndim}"
    planes = (geometry.in_channels, geometry.space), (geometry.out_channels, geometry.out_space)
    for channels, space in planes:
        blocks = batch * geometry.groups * channels * -(-math.prod(space) // THREADS)
        if max(math.prod(space) + THREADS, blocks) > MAX_INT:
            return f"the kernels count to {MAX_INT}, which is not enough for {channels} x {space}"
    return None


def semifield_source(
    semifield: SelectOperations | SubtractOperations, geometry: Geometry, storage: torch.dtype
) -> Source:
    """Return the source for a semifield that has CUDA expressions."""
    defines: dict[str, str | int] = {}
    for name, sizes in (
        ("TAPS", geometry.kernel_size),
        ("STRIDE", geometry.stride),
        ("DILATION", geometry.dilation),
    ):
        for axis, size in zip("DHW", _three(sizes, 1), strict=True):
            defines[f"{name}_{axis}"] = size
    defines |= {name.upper(): text for name, text in (semifield.cuda or {}).items()}
    if isinstance(semifield, SelectOperations):
        defines["INDEX"] = C_TYPES[index_dtype(geometry.num_terms)]
    return source_for("semifield", storage, **defines)


def convolve_by_kernels(
    img: Tensor,
    kernel: Tensor,
    semifield: SelectOperations | SubtractOperations,
    geometry: Geometry,
) -> Tensor:
    """Compute `select_conv` or `subtract_conv`, whichever the semifield is for."""
    output: Tensor = ConvolveByKernels.apply(img, kernel, semifield, geometry)
    return output


class ConvolveByKernels(torch.autograd.Function):
    """The autograd function of `convolve_by_kernels`; it can be differentiated once.

    A semifield that selects keeps the number of each winning term for the backward pass, one that
    can be undone keeps its output.
    """

    @staticmethod
    def forward(
        ctx: Any,
        img: Tensor,
        kernel: Tensor,
        semifield: SelectOperations | SubtractOperations,
        geometry: Geometry,
    ) -> Tensor:
        img, kernel = img.contiguous(), kernel.contiguous()
        output = _new_output(img, geometry)
        selects, winners = isinstance(semifield, SelectOperations), None
        if selects and any(ctx.needs_input_grad):
            winners = torch.empty_like(output, dtype=index_dtype(geometry.num_terms))
        ctx.source = semifield_source(semifield, geometry, img.dtype)
        _forward(ctx.source, geometry, semifield.zero, img, kernel, output, winners)
        ctx.geometry = geometry
        ctx.save_for_backward(img, kernel, winners, None if selects else output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        needs_img, needs_kernel = ctx.needs_input_grad[:2]
        inputs = *ctx.saved_tensors, grad_output.contiguous()
        grad_img = _img_gradient(ctx.source, ctx.geometry, *inputs) if needs_img else None
        grad_kernel = _kernel_gradient(ctx.source, ctx.geometry, *inputs) if needs_kernel else None
        return grad_img, grad_kernel, None, None


def _new_output(img: Tensor, geometry: Geometry) -> Tensor:
    return img.new_empty(len(img), geometry.groups * geometry.out_channels, *geometry.out_space)


def _forward(source: Source, geometry: Geometry, zero: float, *tensors: Tensor | None) -> None:
    """Launch with the tensors in the order of the kernel's parameters, the output third."""
    output = tensors[2]
    assert output is not None
    grid = (_blocks(output),)
    arguments: list[Argument] = [*tensors, *_sizes(geometry), float(zero)]
    launch(source, "semifield_forward", grid, (THREADS,), *arguments)


def _img_gradient(source: Source, geometry: Geometry, img: Tensor, *others: Tensor) -> Tensor:
    grad_img = torch.empty_like(img)
    arguments: list[Argument] = [img, *others, grad_img, *_sizes(geometry)]
    launch(source, "semifield_backward_img", (_blocks(img),), (THREADS,), *arguments)
    return grad_img


def _kernel_gradient(
    source: Source, geometry: Geometry, img: Tensor, kernel: Tensor, *others: Tensor
) -> Tensor:
    pixels = math.prod(geometry.out_space)
    chunks = min(-(-WANTED_BLOCKS // kernel.numel()), -(-pixels // MIN_CHUNK))
    sums = kernel.new_empty(chunks, *kernel.shape, dtype=torch.float64)
    counts = len(img), -(-pixels // chunks)
    arguments: list[Argument] = [img, kernel, *others, sums, *_sizes(geometry), *counts]
    grid = kernel.numel(), chunks
    launch(source, "semifield_backward_kernel", grid, (THREADS,), *arguments)
    return sums.sum(0).to(kernel.dtype)


def _blocks(planes: Tensor) -> int:
    """Number of thread blocks for planes [B, C, *space]; no two planes share a block."""
    return math.prod(planes.shape[:2]) * -(-math.prod(planes.shape[2:]) // THREADS)


def _sizes(geometry: Geometry) -> tuple[int, ...]:
    """The kernels' parameters SIZES."""
    return (
        geometry.groups,
        geometry.in_channels,
        geometry.out_channels,
        *_three(geometry.space, 1),
        *_three(geometry.out_space, 1),
        *_three(tuple(begin for begin, _ in geometry.pads), 0),
    )


def _three(sizes: tuple[int, ...], filling: int) -> tuple[int, ...]:
    return (filling,) * (MAX_AXES - len(sizes)) + sizes
