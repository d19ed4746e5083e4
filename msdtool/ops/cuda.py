"""The MSD block and module by CUDA kernels: the twins of `reference`, and their autograd function.

They run where `msdtool.ops.kernels` can launch: on a GPU with CuPy.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from msdtool.ops.checks import layer_dilations
from msdtool.ops.convolution import compute_dtype
from msdtool.ops.cuda_engine import STRIP_BYTES
from msdtool.ops.plain_engine import Gradients, PlainEngine, Shape

# Without gradients, images go through a module together until they have that many pixels.
PIXELS_AT_ONCE = 2**21


class CudaNetwork:
    """The public operations of a block and a module, as `msdtool.ops.block` calls them."""

    def __init__(self, new_engine: Callable[[Shape, Tensor], PlainEngine]) -> None:
        self.new_engine = new_engine

    def msd_block(
        self,
        input: Tensor,
        weights: Sequence[Tensor],
        bias: Tensor,
        dilations: Sequence[int],
        padding: str,
    ) -> Tensor:
        """Twin of `reference.msd_block`; the result is a view of a buffer, images innermost."""
        engine = self._engine(input, weights, dilations, padding)
        output: Tensor = _Network.apply(engine, input, bias, None, None, *weights)
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
        parameters = (bias, final_weight, final_bias, *weights)
        records = torch.is_grad_enabled() and any(t.requires_grad for t in (input, *parameters))
        at_once = len(input) if records else max(1, PIXELS_AT_ONCE // math.prod(input.shape[2:]))
        outputs: list[Tensor] = []
        for images in input.split(max(1, at_once)):
            engine = self._engine(images, weights, dilations, padding)
            outputs.append(_Network.apply(engine, images, *parameters))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _engine(
        self, input: Tensor, weights: Sequence[Tensor], dilations: Sequence[int], padding: str
    ) -> PlainEngine:
        batch, c_in, *space = input.shape
        per_layer = layer_dilations(dilations, len(weights), space)
        shape = Shape(c_in, len(weights[0]), per_layer, padding, batch, tuple(space))
        return self.new_engine(shape, input)


class _Network(torch.autograd.Function):
    """A block, or with a final layer a module; keeps the planes for backward, nothing else."""

    @staticmethod
    def forward(
        ctx: Any,
        engine: PlainEngine,
        input: Tensor,
        bias: Tensor,
        final_weight: Tensor | None,
        final_bias: Tensor | None,
        *weights: Tensor,
    ) -> Tensor:
        shape = engine.shape
        planes = input.new_empty(shape.channels_before(shape.depth), shape.pixels)
        engine.images(planes[: shape.c_in]).copy_(input)
        engine.forward(planes, weights, bias)
        ctx.engine = engine
        ctx.save_for_backward(planes, bias, final_weight, *weights)
        if final_weight is None or final_bias is None:
            # A view: if someone changes the buffer through it, autograd refuses to go on.
            return engine.images(planes)
        output = torch.addmm(final_bias[:, None], final_weight.squeeze(2), planes)
        return engine.images(output).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        planes, bias, final_weight, *weights = ctx.saved_tensors
        engine: PlainEngine = ctx.engine
        (
            _,
            needs_input,
            needs_bias,
            *needs_final,
        ) = ctx.needs_input_grad[:5]
        gradients = Gradients(weights, bias, needs_bias, ctx.needs_input_grad[5:])
        upstream = grad_output.to(compute_dtype(planes.dtype)).transpose(0, 1).flatten(1)
        by_final: list[Tensor | None] = [None, None]
        if final_weight is None:
            grads = upstream.clone(memory_format=torch.contiguous_format)
        else:
            grads = final_weight.squeeze(2).t().to(upstream.dtype) @ upstream
            by_final = _final_gradients(planes, upstream, needs_final)
        engine.backward(planes, grads, weights, gradients, needs_input)
        by_input = engine.images(grads[: engine.shape.c_in]) if needs_input else None
        found = (by_input, gradients.bias, *by_final, *gradients.weights)
        return (None, *(None if grad is None else grad.to(planes.dtype) for grad in found))


def _final_gradients(
    planes: Tensor, upstream: Tensor, needed: Sequence[bool]
) -> list[Tensor | None]:
    """Gradients of the final layer from that of its output, upstream [c_out, B * pixels]."""
    by_weight = None
    if needed[0]:
        by_weight = upstream.new_zeros(len(upstream), len(planes))
        step = max(1, STRIP_BYTES // (len(planes) * upstream.element_size()))
        step = planes.shape[1] if planes.dtype == upstream.dtype else step
        for sources, grads in zip(planes.split(step, 1), upstream.split(step, 1), strict=True):
            by_weight.addmm_(grads, sources.to(grads.dtype).t())
        by_weight = by_weight.unsqueeze(2)
    return [by_weight, upstream.sum(1) if needed[1] else None]
