"""An MSD block, with or without its final layer, on any engine, and its autograd function.

It keeps one buffer of all channels for the backward pass and nothing else of that size. Where no
gradient is needed, a few images at a time go through one buffer of their size.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual
from torch.autograd.function import once_differentiable

from msdtool.ops.engine import Engine, Gradients, Parameters, shape_of


def compute(
    engine_type: type[Engine],
    input: Tensor,
    parameters: Parameters,
    dilations: Sequence[int],
    padding: str,
) -> Tensor:
    """Apply a block and, if the parameters have one, its final layer to [B, c_in, *space].

    Returns:
        The final layer's output [B, c_out, *space]; without a final layer a view of the engine's
        buffer, [B, c_in + width*depth, *space].
    """
    shape = shape_of(input.shape, parameters, dilations, padding)
    weights, bias, final_weight, final_bias = parameters
    if _records(input, *parameters.tensors()):
        recorded: Tensor = _Network.apply(
            engine_type(shape, input), input, bias, final_weight, final_bias, *weights
        )
        return recorded
    if final_bias is None:
        engine = engine_type(shape, input)
        return engine.images(_new_channels(engine, input, parameters))
    output = input.new_empty(len(input), len(final_bias), *input.shape[2:])
    at_once = max(1, engine_type.pixels_at_once // math.prod(shape.space))
    planes: Tensor | None = None
    for first in range(0, len(input), at_once):
        images = input[first : first + at_once]
        if planes is None or engine.shape.batch != len(images):
            planes = None  # before there is another one
            engine = engine_type(replace(shape, batch=len(images)), input)
            planes = engine.new_planes(input)
        engine.images(planes)[:, : shape.c_in] = images
        engine.forward(planes, parameters)
        engine.forward_final(planes, parameters, output[first : first + at_once])
    return output


class _Network(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        engine: Engine,
        input: Tensor,
        bias: Tensor,
        final_weight: Tensor | None,
        final_bias: Tensor | None,
        *weights: Tensor,
    ) -> Tensor:
        parameters = Parameters(weights, bias, final_weight, final_bias)
        planes = _new_channels(engine, input, parameters)
        ctx.engine = engine
        ctx.save_for_backward(planes, bias, final_weight, *weights)
        if final_bias is None:
            # A view: if someone changes the buffer through it, autograd refuses to continue.
            return engine.images(planes)
        output = input.new_empty(len(input), len(final_bias), *input.shape[2:])
        engine.forward_final(planes, parameters, output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        planes, bias, final_weight, *weights = ctx.saved_tensors
        engine: Engine = ctx.engine
        parameters = Parameters(weights, bias, final_weight)
        dtype = torch.promote_types(planes.dtype, torch.float32)
        gradients = Gradients(engine.shape, parameters, ctx.needs_input_grad[1:], dtype)
        engine.backward(planes, parameters, grad_output, gradients)
        return None, *gradients.to(planes.dtype)


def _new_channels(engine: Engine, input: Tensor, parameters: Parameters) -> Tensor:
    """The channels of all images, as planes of the engine."""
    planes = engine.new_planes(input)
    engine.images(planes)[:, : engine.shape.c_in] = input
    engine.forward(planes, parameters)
    return planes


def _records(*tensors: Tensor) -> bool:
    """Whether autograd has to know: it will ask for a gradient, or refuses forward mode."""
    recorded = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return recorded or any(unpack_dual(tensor).tangent is not None for tensor in tensors)
