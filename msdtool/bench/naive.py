"""An MSD network by CUDA kernels as one writes them first, to compare with: 2D, symmetric borders.

One thread per pixel and one load per multiplication; a layer's weights in shared memory; gradients
by the weights through a reduction in each warp and atomic additions. Written for this comparison.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from msdtool.ops.kernels import launch
from msdtool.ops.sources import Source

THREADS = 256
MAX_CHANNELS = 1300  # whose weights fit shared memory

CODE = """
#include "common.cuh"
#include "border.cuh"

const int SYMMETRIC = 0;

__device__ void load_weights(float* shared, const float* weight, int64 channels) {
    for (int64 i = threadIdx.x; i < channels * 9; i += blockDim.x) shared[i] = weight[i];
    __syncthreads();
}

extern "C" __global__ void naive_forward(
    const float* buffer, const float* weight, const float* bias, float* output,
    int64 channels, int64 height, int64 width, int64 dilation) {
    DYNAMIC_SHARED(float, weights);
    load_weights(weights, weight, channels);
    const int64 index = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (index >= height * width) return;
    const int y = index / width, x = index % width;
    float sum = bias[0];
    for (int64 c = 0; c < channels; ++c)
        for (int tap = 0; tap < 9; ++tap) {
            const int row = border(y + dilation * (tap / 3 - 1), height, SYMMETRIC);
            const int column = border(x + dilation * (tap % 3 - 1), width, SYMMETRIC);
            sum += weights[c * 9 + tap] * buffer[(c * height + row) * width + column];
        }
    output[index] = sum < 0 ? 0 : sum;
}

extern "C" __global__ void naive_backward_input(
    const float* weight, const float* delta, float* grads,
    int64 channels, int64 height, int64 width, int64 dilation) {
    DYNAMIC_SHARED(float, weights);
    load_weights(weights, weight, channels);
    const int64 index = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (index >= height * width) return;
    const int y = index / width, x = index % width;
    const int rows = num_preimages(y, height, dilation);
    const int columns = num_preimages(x, width, dilation);
    for (int64 c = 0; c < channels; ++c) {
        float sum = 0;
        for (int tap = 0; tap < 9; ++tap)
            for (int image = 0; image < rows * columns; ++image) {
                const int row = preimage(y, image / columns, height, SYMMETRIC) -
                                dilation * (tap / 3 - 1);
                const int column = preimage(x, image % columns, width, SYMMETRIC) -
                                   dilation * (tap % 3 - 1);
                if (row >= 0 && row < height && column >= 0 && column < width)
                    sum += weights[c * 9 + tap] * delta[row * width + column];
            }
        grads[c * height * width + index] += sum;
    }
}

extern "C" __global__ void naive_backward_weight(
    const float* buffer, const float* delta, float* grad_weight,
    int64 channels, int64 height, int64 width, int64 dilation) {
    const int64 index = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    const bool inside = index < height * width;
    const int y = inside ? index / width : 0, x = inside ? index % width : 0;
    const float factor = inside ? delta[index] : 0;
    for (int64 c = 0; c < channels; ++c)
        for (int tap = 0; tap < 9; ++tap) {
            const int row = border(y + dilation * (tap / 3 - 1), height, SYMMETRIC);
            const int column = border(x + dilation * (tap % 3 - 1), width, SYMMETRIC);
            const float sum = warp_sum(factor * buffer[(c * height + row) * width + column]);
            if (threadIdx.x % 32 == 0) atomicAdd(grad_weight + c * 9 + tap, sum);
        }
}
"""


@dataclass(frozen=True)
class _Code(Source):
    def own_text(self) -> str:
        return CODE


SOURCE = _Code("naive")


def per_layer(
    input: Tensor,
    weights: Sequence[Tensor],
    bias: Tensor,
    final_weight: Tensor,
    final_bias: Tensor,
    dilations: Sequence[int],
    padding: str,
) -> Tensor:
    """Compute `ops.msd_module` for one image [1, c_in, H, W] in float32, width 1."""
    output: Tensor = _PerLayer.apply(input, bias, final_weight, final_bias, dilations, *weights)
    return output


class _PerLayer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        bias: Tensor,
        final_weight: Tensor,
        final_bias: Tensor,
        dilations: Sequence[int],
        *weights: Tensor,
    ) -> Tensor:
        c_in = input.shape[1]
        buffer = input.new_empty(c_in + len(weights), *input.shape[2:])
        buffer[:c_in] = input[0]
        for layer, weight in enumerate(weights):
            tensors = buffer, weight, bias[layer:], buffer[c_in + layer]
            _launch("naive_forward", buffer, tensors, layer, c_in, dilations)
        ctx.save_for_backward(buffer, final_weight, *weights)
        ctx.dilations = dilations
        pixels = torch.addmm(final_bias[:, None], final_weight.squeeze(2), buffer.flatten(1))
        return pixels.view(1, -1, *input.shape[2:])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        buffer, final_weight, *weights = ctx.saved_tensors
        upstream = grad_outputs[0][0].flatten(1)
        grads = (final_weight.squeeze(2).t() @ upstream).view_as(buffer)
        by_final = (upstream @ buffer.flatten(1).t()).unsqueeze(2)
        by_weights = [torch.zeros_like(weight) for weight in weights]
        by_bias = buffer.new_empty(len(weights))
        c_in = weights[0].shape[1]
        for layer in reversed(range(len(weights))):
            delta = grads[c_in + layer] * (buffer[c_in + layer] > 0)
            by_bias[layer] = delta.sum()
            for function, tensors in (
                ("naive_backward_input", (weights[layer], delta, grads)),
                ("naive_backward_weight", (buffer, delta, by_weights[layer])),
            ):
                _launch(function, buffer, tensors, layer, c_in, ctx.dilations)
        by_input = grads[None, :c_in] if ctx.needs_input_grad[0] else None
        return by_input, by_bias, by_final, upstream.sum(1), None, *by_weights


def _launch(
    function: str,
    buffer: Tensor,
    tensors: Sequence[Tensor],
    layer: int,
    c_in: int,
    dilations: Sequence[int],
) -> None:
    _, height, width = buffer.shape
    channels = c_in + layer
    launch(
        SOURCE,
        function,
        (-(-height * width // THREADS),),
        (THREADS,),
        *tensors,
        channels,
        height,
        width,
        dilations[layer % len(dilations)],
        shared_bytes=4 * 9 * channels,
    )
