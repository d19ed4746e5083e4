"""Convolutions by CUDA kernels (kernels/convolution.cu), into and from slices of larger buffers.

Shapes: input [B, C_in, *space], weight [C_out, C_in, k, k(, k)] with k odd, output [B, C_out,
*out_space], two or three spatial axes; all have one dtype, and any strides. Gradients have the
dtype used for computing, `compute_dtype`. Only what the kernels rely on is checked here.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from msdtool.border import RULES
from msdtool.ops.cuda.launcher import launch
from msdtool.ops.cuda.sources import STORAGES, Source, source_for

THREADS = 256  # as in kernels/convolution.cu; tests/kernels/test_constants.py
INPUT_CHANNELS_PER_THREAD = 8  # in backward to the input
MAX_GRID_Y = 65535
MAX_PIXELS = 2**31 - 1
# Backward to the weights cuts the pixels into chunks, so that even few channels keep a GPU busy.
PIXELS_PER_CHUNK = 4096
BLOCKS_WANTED = 2048

SOURCES = tuple(
    source_for("convolution", dtype, NDIM=ndim, KERNEL_SIZE=3)
    for dtype in STORAGES
    for ndim in (2, 3)
)


@dataclass(frozen=True)
class Geometry:
    """How a convolution moves over its input."""

    padding: str = "symmetric"
    stride: int = 1
    dilation: int = 1


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype for computing with values stored as ``dtype``: float64 for itself, else float32."""
    return torch.promote_types(dtype, torch.float32)


def forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    output: Tensor,
    geometry: Geometry,
    *,
    relu: bool,
) -> None:
    """Write the convolution plus bias [C_out] to output, or its ReLU.

    Without a bias, the convolution is added to what the output holds.
    """
    weight = _with_contiguous_taps(weight)
    launch(
        _source(weight),
        "convolution_forward",
        (_blocks(_pixels(output)), min(len(weight), MAX_GRID_Y)),
        (THREADS,),
        *_strided(input),
        *_weight(weight),
        None if bias is None else bias.contiguous(),
        *_strided(output),
        *_sizes(input.shape, output.shape),
        *_steps(geometry),
        int(relu),
    )


def backward_input(
    weight: Tensor,
    output: Tensor | None,
    grad_output: Tensor,
    grad_input: Tensor,
    geometry: Geometry,
) -> None:
    """Add to grad_input; ``output`` is not None if a ReLU followed the convolution."""
    weight = _with_contiguous_taps(weight)
    channels = grad_input.shape[1]
    launch(
        _source(weight),
        "convolution_backward_input",
        (
            _blocks(_pixels(grad_input)),
            min(-(-channels // INPUT_CHANNELS_PER_THREAD), MAX_GRID_Y),
        ),
        (THREADS,),
        *_weight(weight),
        *_strided(output),
        *_strided(grad_output),
        *_strided(grad_input),
        *_sizes(grad_input.shape, grad_output.shape),
        *_steps(geometry),
    )


def backward_weight(
    input: Tensor,
    weight_shape: torch.Size,
    output: Tensor | None,
    grad_output: Tensor,
    geometry: Geometry,
) -> tuple[Tensor, Tensor]:
    """Gradients with respect to weight and bias; two runs produce the same bits."""
    pairs = weight_shape[0] * weight_shape[1]
    taps = math.prod(weight_shape[2:])
    chunks = min(-(-_pixels(grad_output) // PIXELS_PER_CHUNK), max(1, BLOCKS_WANTED // pairs))
    partial_sums = grad_output.new_zeros(chunks, *weight_shape[:2], taps + 1)
    launch(
        _source_of(input, weight_shape),
        "convolution_backward_weight",
        (chunks, min(pairs, MAX_GRID_Y)),
        (THREADS,),
        *_strided(input),
        *_strided(output),
        *_strided(grad_output),
        partial_sums,
        *_sizes(input.shape, grad_output.shape),
        *_steps(geometry),
    )
    sums = partial_sums.sum(0)
    return sums[..., :taps].reshape(weight_shape), sums[:, 0, taps].clone()


def _source(weight: Tensor) -> Source:
    return _source_of(weight, weight.shape)


def _source_of(tensor: Tensor, weight_shape: torch.Size) -> Source:
    return source_for(
        "convolution", tensor.dtype, NDIM=len(weight_shape) - 2, KERNEL_SIZE=weight_shape[-1]
    )


def _with_contiguous_taps(weight: Tensor) -> Tensor:
    steps = [math.prod(weight.shape[axis + 1 :]) for axis in range(2, weight.dim())]
    return weight if list(weight.stride()[2:]) == steps else weight.contiguous()


def _strided(tensor: Tensor | None) -> tuple[Tensor | int | None, ...]:
    """A tensor [B, C, *space] and its five strides; that of the missing first axis in 2D is 0."""
    if tensor is None:
        return (None, 0, 0, 0, 0, 0)
    batch, channel, *space = tensor.stride()
    return (tensor, batch, channel, *(0,) * (3 - len(space)), *space)


def _weight(weight: Tensor) -> tuple[Tensor | int, ...]:
    return weight, weight.stride(0), weight.stride(1)


def _sizes(input: torch.Size, output: torch.Size) -> tuple[int, ...]:
    batch, c_in, *space = input
    _, c_out, *out_space = output
    missing = (1,) * (3 - len(space))
    return batch, c_in, c_out, *missing, *space, *missing, *out_space


def _steps(geometry: Geometry) -> tuple[int, ...]:
    return geometry.stride, geometry.dilation, RULES[geometry.padding]


def _pixels(tensor: Tensor) -> int:
    pixels = tensor.shape[0] * math.prod(tensor.shape[2:])
    if pixels > MAX_PIXELS:
        raise ValueError(
            f"images of {pixels} pixels together; the CUDA kernels count to {MAX_PIXELS}; pass "
            "fewer at once, or choose another impl"
        )
    return pixels


def _blocks(threads: int) -> int:
    return -(-threads // THREADS)
