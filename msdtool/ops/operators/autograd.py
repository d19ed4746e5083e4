"""What the private operators do where autograd takes part.

A recorded pass keeps the channels of all layers; gradients of gradients are refused.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from msdtool.ops.operators import implementations, torch_internals
from msdtool.ops.operators.arguments import Call, is_plain
from msdtool.ops.operators.schemas import LIBRARY, differentiate, network, record


def compute_network(call: Call) -> Tensor:
    """The kernel of ``_network`` under autograd, and what plain calls do."""
    tensors = call.parameters.tensors()
    if _records(call.input, *tensors):
        weights, *others = call.parameters
        recorded: Tensor = _apply(_Network, call[5:], call.input, *others, *weights)
        return recorded
    if is_plain(call.input, *tensors):
        return implementations.infer(*call)
    with torch_internals.below_autograd():
        output: Tensor = network(*call)
    return output


def _without_derivative(operator: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
    """The operator, whose results refuse to be differentiated."""

    def kernel(*arguments: Any) -> list[Tensor]:
        with torch_internals.below_autograd():
            results = operator(*arguments)
        tensors = [
            tensor
            for value in arguments
            for tensor in (value if isinstance(value, list) else (value,))
            if isinstance(tensor, Tensor)
        ]
        return list(_apply(_Once, results, *tensors)) if _records(*tensors) else results

    return kernel


def _records(*tensors: Tensor) -> bool:
    """Whether autograd has to know: it will ask for a gradient, or refuses forward mode."""
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return True
    return torch_internals.has_tangent(*tensors)


def _apply(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    """Apply a function to tensors as they are.

    `Function.apply` would start all transformations of `torch.func` that are active. But an
    operator is called by one of them, after those inside it; torch itself applies functions for one
    of them in the same way.
    """
    apply = super(torch.autograd.Function, function).apply  # type: ignore[misc]
    with torch_internals.one_transform():
        return apply(*arguments)


@contextmanager
def _outer_recording() -> Iterator[None]:
    """Within a function's forward, let transformations of `torch.func` around its own record."""
    with torch.enable_grad(), torch_internals.forward_mode():
        yield


class _Network(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        options: tuple[Sequence[int], str, str],
        input: Tensor,
        bias: Tensor,
        final_weight: Tensor | None,
        final_bias: Tensor | None,
        *weights: Tensor,
    ) -> Tensor:
        call = Call(input, weights, bias, final_weight, final_bias, *options)
        if is_plain(input, *call.parameters.tensors()):
            planes, result = _record_images(implementations.record, call)
        else:
            with _outer_recording(), torch_internals.below_autograd():
                planes, result = _record_images(record, call)
        ctx.options, ctx.size = options, input.shape
        ctx.save_for_backward(planes, bias, final_weight, *weights)
        return result

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        planes, bias, final_weight, *weights = ctx.saved_tensors
        needed = ctx.needs_input_grad[1:]
        arguments = grad_output, planes, weights, bias, final_weight, ctx.size, *ctx.options, needed
        # A graph of the gradients is for the operator to refuse.
        if is_plain(grad_output, planes, bias, *weights) and not torch.is_grad_enabled():
            return None, *implementations.gradients(*arguments).to(planes.dtype)
        return None, *_in_order(differentiate(*arguments), weights, needed)


def _record_images(run: Callable[..., list[Tensor]], call: Call) -> tuple[Tensor, Tensor]:
    """Planes and result of a recorded pass."""
    planes, *output = run(*call)
    if output:
        return planes, output[0]
    # A view: if someone changes the buffer through it, autograd refuses to continue.
    return planes, call.engine_type(call.shape, planes).images(planes)


class _Once(torch.autograd.Function):
    """Passes on results of tensors that do not tell how to differentiate them."""

    @staticmethod
    def forward(_: Any, results: Sequence[Tensor], *__: Tensor) -> tuple[Tensor, ...]:
        with _outer_recording():
            return tuple(result.view_as(result) for result in results)

    @staticmethod
    def backward(*_: Any) -> None:
        raise RuntimeError(
            "the engines of an MSD network compute no second derivatives; "
            "call msdtool.ops.msd_module or msd_block with impl='reference', which does"
        )


def _in_order(
    found: Sequence[Tensor], weights: Sequence[Tensor], needed: Sequence[bool]
) -> list[Tensor | None]:
    """What `differentiate` returned, in the order of ``needed``; None where not needed."""
    left = list(found)
    grads: list[Tensor | None] = [left.pop(0) if wanted else None for wanted in needed[:4]]
    if not any(needed[4:]):
        return grads + [None] * len(weights)
    parts = left.pop().split([weight.numel() for weight in weights])
    for part, weight, wanted in zip(parts, weights, needed[4:], strict=True):
        grads.append(part.view(weight.shape) if wanted else None)
    return grads


LIBRARY.impl("_network", lambda *arguments: compute_network(Call(*arguments)), "Autograd")
LIBRARY.impl("_record", _without_derivative(record), "Autograd")
LIBRARY.impl("_differentiate", _without_derivative(differentiate), "Autograd")
