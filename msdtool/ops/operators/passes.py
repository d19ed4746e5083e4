"""The passes of an MSD block, with or without its final layer, on any engine.

A recorded forward pass keeps one buffer of all channels for the backward pass and nothing else of
that size. Where no gradient is needed, a few images at a time go through one buffer of their size.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from msdtool.ops.engine import BlockShape, Engine, Gradients, Parameters


def infer(
    engine_type: type[Engine], shape: BlockShape, input: Tensor, parameters: Parameters
) -> Tensor:
    """Apply a block and, if the parameters have one, its final layer to [B, c_in, *space].

    Returns:
        The final layer's output [B, c_out, *space]; without a final layer a view of the engine's
        buffer, [B, c_in + width*depth, *space].
    """
    final_bias = parameters.final_bias
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


def record(
    engine_type: type[Engine], shape: BlockShape, input: Tensor, parameters: Parameters
) -> list[Tensor]:
    """The same in one buffer for all images: the planes and, of a final layer, the output."""
    engine = engine_type(shape, input)
    planes = _new_channels(engine, input, parameters)
    if parameters.final_bias is None:
        return [planes]
    output = input.new_empty(len(input), len(parameters.final_bias), *input.shape[2:])
    engine.forward_final(planes, parameters, output)
    return [planes, output]


def differentiate(
    engine_type: type[Engine],
    shape: BlockShape,
    planes: Tensor,
    parameters: Parameters,
    grad_output: Tensor,
    needed: Sequence[bool],
) -> Gradients:
    """The gradients that are needed.

    Args:
        engine_type, shape: as for `record`.
        planes: as `record` left them.
        parameters: the same; the final bias is not used.
        grad_output: gradient with respect to the output, or without a final layer to all channels.
        needed: as for `Gradients`.
    """
    dtype = torch.promote_types(planes.dtype, torch.float32)
    gradients = Gradients(shape, parameters, needed, dtype)
    engine_type(shape, planes).backward(planes, parameters, grad_output, gradients)
    return gradients


def _new_channels(engine: Engine, input: Tensor, parameters: Parameters) -> Tensor:
    """The channels of all images, as planes of the engine."""
    planes = engine.new_planes(input)
    engine.images(planes)[:, : engine.shape.c_in] = input
    engine.forward(planes, parameters)
    return planes
