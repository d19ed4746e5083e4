"""An MSD network by straightforward CUDA kernels, as a baseline (kernels/naive.cu).

2D, symmetric padding, one image, width 1.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from msdtool.ops.cuda.launcher import launch
from msdtool.ops.cuda.sources import Source

THREADS = 256
MAX_CHANNELS = 1300  # more weights would not fit shared memory


SOURCE = Source("naive")


def per_layer(
    input: Tensor,
    weights: Sequence[Tensor],
    bias: Tensor,
    final_weight: Tensor,
    final_bias: Tensor,
    dilations: Sequence[int],
    _padding: str,
) -> Tensor:
    """Compute `ops.msd_module` for one image [1, c_in, H, W] in float32, width 1, symmetric."""
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
