"""The autograd functions: one for an MSD block, one for a block and its final 1x1 layer.

Both keep one buffer of all channels for the backward pass and nothing else of that size.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual
from torch.autograd.function import once_differentiable

from msdtool.ops.checks import layer_dilations
from msdtool.ops.engine import BlockGradients, Network
from msdtool.ops.engines import Engine, EngineMaker


class EngineNetwork:
    """The public operations of a block and a module on an engine.

    Args:
        make_engine: makes the engine for the tensors of a call.
    """

    def __init__(self, make_engine: EngineMaker) -> None:
        self.make_engine = make_engine

    def msd_block(
        self,
        input: Tensor,
        weights: Sequence[Tensor],
        bias: Tensor,
        dilations: Sequence[int],
        padding: str,
    ) -> Tensor:
        """Twin of `reference.msd_block`; the result is a view of the engine's buffer."""
        engine = self._engine(input, weights, dilations, padding)
        if not _records(input, bias, *weights):
            planes = engine.new_planes(len(input), like=input)
            for image, pixels in zip(planes, input, strict=True):
                _run_block(engine, image, pixels, weights, bias)
            return engine.pixels(planes)
        output: Tensor = _Block.apply(engine, input, bias, *weights)
        return output

    def msd_module(
        self,
        input: Tensor,
        weights: Sequence[Tensor],
        bias: Tensor,
        final_weight: Tensor,
        final_bias: Tensor,
        dilations: Sequence[int],
        padding: str,
    ) -> Tensor:
        """Twin of `reference.msd_module`."""
        engine = self._engine(input, weights, dilations, padding)
        if not _records(input, bias, final_weight, final_bias, *weights):
            output = input.new_empty(len(input), len(final_bias), *input.shape[2:])
            image = engine.new_planes(like=input)
            for pixels, result in zip(input, output, strict=True):
                _run_block(engine, image, pixels, weights, bias)
                engine.forward_final(image, final_weight, final_bias, result)
            return output
        recorded: Tensor = _Module.apply(engine, input, bias, final_weight, final_bias, *weights)
        return recorded

    def _engine(
        self, input: Tensor, weights: Sequence[Tensor], dilations: Sequence[int], padding: str
    ) -> Engine:
        _, c_in, *space = input.shape
        per_layer = layer_dilations(dilations, len(weights), space)
        network = Network(c_in, len(weights[0]), per_layer)
        return self.make_engine(network, tuple(space), padding, input)


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, engine: Engine, input: Tensor, bias: Tensor, *weights: Tensor) -> Tensor:
        planes = engine.new_planes(len(input), like=input)
        for image, pixels in zip(planes, input, strict=True):
            _run_block(engine, image, pixels, weights, bias)
        ctx.engine = engine
        ctx.save_for_backward(planes, bias, *weights)
        # A view: if someone changes the buffer through it, autograd refuses to go on.
        return engine.pixels(planes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        planes, bias, *weights = ctx.saved_tensors
        engine: Engine = ctx.engine
        _, needs_input, needs_bias, *needs_weights = ctx.needs_input_grad
        gradients = BlockGradients(weights, bias, needs_input, needs_bias, needs_weights)
        grad_input = _new_input_gradient(engine, grad_output, needs_input)
        grads = engine.new_planes(like=planes)
        for index, image in enumerate(planes):
            engine.load(grads, grad_output[index])
            engine.backward(image, grads, weights, gradients)
            if grad_input is not None:
                grad_input[index] = engine.pixels(grads)[: engine.network.c_in]
        return None, grad_input, gradients.bias, *gradients.weights


class _Module(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        engine: Engine,
        input: Tensor,
        bias: Tensor,
        final_weight: Tensor,
        final_bias: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        planes = engine.new_planes(len(input), like=input)
        output = input.new_empty(len(input), len(final_bias), *input.shape[2:])
        for image, pixels, result in zip(planes, input, output, strict=True):
            _run_block(engine, image, pixels, weights, bias)
            engine.forward_final(image, final_weight, final_bias, result)
        ctx.engine = engine
        ctx.save_for_backward(planes, bias, final_weight, *weights)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        planes, bias, final_weight, *weights = ctx.saved_tensors
        engine: Engine = ctx.engine
        _, needs_input, needs_bias, needs_final, needs_final_bias, *needs_weights = (
            ctx.needs_input_grad
        )
        gradients = BlockGradients(weights, bias, needs_input, needs_bias, needs_weights)
        grad_input = _new_input_gradient(engine, grad_output, needs_input)
        grad_final = final_weight.new_zeros(final_weight.shape) if needs_final else None
        grads = engine.new_planes(like=planes)
        for index, image in enumerate(planes):
            upstream = grad_output[index]
            engine.backward_final(image, final_weight, upstream, grads, grad_final)
            engine.backward(image, grads, weights, gradients)
            if grad_input is not None:
                grad_input[index] = engine.pixels(grads)[: engine.network.c_in]
        grad_final_bias = grad_output.flatten(2).sum((0, 2)) if needs_final_bias else None
        return (
            None,
            grad_input,
            gradients.bias,
            grad_final,
            grad_final_bias,
            *gradients.weights,
        )


def _records(*tensors: Tensor) -> bool:
    """Whether autograd has to know: it will ask for a gradient, or refuses forward mode."""
    recorded = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return recorded or any(unpack_dual(tensor).tangent is not None for tensor in tensors)


def _run_block(
    engine: Engine, image: Tensor, pixels: Tensor, weights: Sequence[Tensor], bias: Tensor
) -> None:
    engine.pixels(image)[: engine.network.c_in] = pixels
    engine.forward(image, weights, bias)


def _new_input_gradient(engine: Engine, grad_output: Tensor, needed: bool) -> Tensor | None:
    if not needed:
        return None
    return grad_output.new_empty(len(grad_output), engine.network.c_in, *grad_output.shape[2:])
