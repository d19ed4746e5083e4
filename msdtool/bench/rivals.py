"""The same networks as commonly written in plain torch, one convolution per layer.

Both take the arguments of `ops.msd_module`. torch has no symmetric padding, so they pad by
reflection, which costs the same and differs only in the values at the border.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn import grad as convolution_gradients

from msdtool.bench.cases import BYTES_PER_VALUE, Case
from msdtool.nn.msd import DILATIONS

CONVOLVE = {2: F.conv2d, 3: F.conv3d}
GRADIENT_BY_INPUT = {2: convolution_gradients.conv2d_input, 3: convolution_gradients.conv3d_input}
GRADIENT_BY_WEIGHT = {
    2: convolution_gradients.conv2d_weight,
    3: convolution_gradients.conv3d_weight,
}


def concatenate(
    input: Tensor,
    weights: Sequence[Tensor],
    bias: Tensor,
    final_weight: Tensor,
    final_bias: Tensor,
    dilations: Sequence[int],
    padding: str,
) -> Tensor:
    """Concatenate all preceding channels with torch.cat before each layer; use autograd."""
    ndim = input.dim() - 2
    width = len(weights[0])
    features = input
    for layer, weight in enumerate(weights):
        dilation = dilations[layer % len(dilations)]
        layer_bias = bias[layer * width : (layer + 1) * width]
        output = _convolve(features, weight, layer_bias, dilation, padding)
        features = torch.cat([features, output.relu()], dim=1)
    return CONVOLVE[ndim](features, final_weight[(...,) + (None,) * (ndim - 1)], final_bias)


def in_place(
    input: Tensor,
    weights: Sequence[Tensor],
    bias: Tensor,
    final_weight: Tensor,
    final_bias: Tensor,
    dilations: Sequence[int],
    padding: str,
) -> Tensor:
    """Use one buffer for all channels, read and written layer by layer, and one for gradients."""
    output: Tensor = _InPlace.apply(
        input, bias, final_weight, final_bias, dilations, padding, *weights
    )
    return output


def concatenate_bytes(case: Case) -> int:
    """Estimate the memory of a step of `concatenate` in bytes."""
    # Autograd keeps the input of every layer and, unless the convolution pads, the padded input.
    kept = sum(
        case.channels_before(layer) * (case.pixels + _padded_pixels(case, layer))
        for layer in range(case.depth)
    )
    return BYTES_PER_VALUE * (kept + 4 * case.channels * case.pixels)


def in_place_bytes(case: Case) -> int:
    """Estimate the memory of a step of `in_place` in bytes."""
    padded = max(_padded_pixels(case, layer) for layer in range(case.depth))
    return BYTES_PER_VALUE * case.channels * (4 * case.pixels + 2 * padded)


def _padded_pixels(case: Case, layer: int) -> int:
    if case.padding == "zeros":
        return 0
    margin = 2 * DILATIONS[layer % len(DILATIONS)]
    return case.batch * math.prod(size + margin for size in case.space)


class _InPlace(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        bias: Tensor,
        final_weight: Tensor,
        final_bias: Tensor,
        dilations: Sequence[int],
        padding: str,
        *weights: Tensor,
    ) -> Tensor:
        width, c_in = len(weights[0]), input.shape[1]
        buffer = input.new_empty(len(input), c_in + len(bias), *input.shape[2:])
        buffer[:, :c_in] = input
        for layer, weight in enumerate(weights):
            dilation, first = dilations[layer % len(dilations)], c_in + width * layer
            layer_bias = bias[layer * width : (layer + 1) * width]
            output = _convolve(buffer[:, :first], weight, layer_bias, dilation, padding)
            buffer[:, first : first + width] = output.relu_()
        ctx.save_for_backward(buffer, final_weight, *weights)
        ctx.dilations, ctx.padding = dilations, padding
        pixels = F.conv1d(buffer.flatten(2), final_weight, final_bias)
        return pixels.unflatten(2, input.shape[2:])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        buffer, final_weight, *weights = ctx.saved_tensors
        upstream = grad_outputs[0].flatten(2)
        grads = (final_weight.squeeze(2).t() @ upstream).view_as(buffer)
        final_grad = (upstream @ buffer.flatten(2).mT).sum(0).unsqueeze(2)
        weight_grads: list[Tensor] = []
        bias_grads: list[Tensor] = []
        for layer in reversed(range(len(weights))):
            dilation = ctx.dilations[layer % len(ctx.dilations)]
            weight_grad, bias_grad = _backward_layer(
                buffer, grads, weights[layer], dilation, ctx.padding
            )
            weight_grads.insert(0, weight_grad)
            bias_grads.insert(0, bias_grad)
        c_in = weights[0].shape[1]
        return (
            grads[:, :c_in] if ctx.needs_input_grad[0] else None,
            torch.cat(bias_grads),
            final_grad,
            upstream.sum((0, 2)),
            None,
            None,
            *weight_grads,
        )


def _backward_layer(
    buffer: Tensor, grads: Tensor, weight: Tensor, dilation: int, padding: str
) -> tuple[Tensor, Tensor]:
    """Add a layer's gradient to its preceding channels'; return that of weight and bias."""
    ndim = buffer.dim() - 2
    width, first = weight.shape[:2]
    layer = slice(first, first + width)
    delta = grads[:, layer] * (buffer[:, layer] > 0)
    with torch.enable_grad():
        front = buffer[:, :first].detach().requires_grad_()
        padded, margin = _pad(front, dilation, padding)
    values = padded.detach()
    sizes = {"padding": margin, "dilation": dilation}
    by_padded = GRADIENT_BY_INPUT[ndim](values.shape, weight, delta, **sizes)
    weight_grad = GRADIENT_BY_WEIGHT[ndim](values, weight.shape, delta, **sizes)
    grads[:, :first] += torch.autograd.grad(padded, front, by_padded)[0]
    return weight_grad, delta.transpose(0, 1).flatten(1).sum(1)


def _convolve(input: Tensor, weight: Tensor, bias: Tensor, dilation: int, padding: str) -> Tensor:
    padded, margin = _pad(input, dilation, padding)
    return CONVOLVE[input.dim() - 2](padded, weight, bias, padding=margin, dilation=dilation)


def _pad(input: Tensor, dilation: int, padding: str) -> tuple[Tensor, int]:
    """Return the padded input, and the margin of zeros that the convolution should add."""
    if padding == "zeros":
        return input, dilation
    return F.pad(input, (dilation, dilation) * (input.dim() - 2), mode="reflect"), 0
