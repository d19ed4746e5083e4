"""MSD block and module as operators of torch: ``torch.ops.msdtool.msd_block`` and ``.msd_module``.

Torch's transformations see a registered operator as a whole: `torch.compile` and `torch.export`
keep it in their graphs, autocast casts its arguments, `torch.func` differentiates and maps it, fake
tensors go through it without memory, and profiles show its name.

The two operators check their arguments, choose the engine and leave the work to private ones:
``_network`` computes the result; if autograd asks for derivatives, ``_record``, which keeps all
channels, and ``_differentiate`` take its place. `msdtool.ops.operator_rules` has what fake tensors,
autocast and vmap need.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import forward_ad

from msdtool.ops import engines, passes, reference
from msdtool.ops.checks import check_block, check_final, check_impl, check_same_kind
from msdtool.ops.engine import BlockShape, Engine, Gradients, Parameters, shape_of

_PLAIN = frozenset((Tensor, torch.nn.Parameter))

_BLOCK = "Tensor input, Tensor[] weights, Tensor bias"
_OPTIONS = 'int[] dilations, str padding="symmetric", str impl="auto"'
_CALL = (
    f"{_BLOCK}, Tensor? final_weight, Tensor? final_bias, int[] dilations, str padding, str impl"
)

LIBRARY = torch.library.Library("msdtool", "DEF")
for _schema in (
    f"msd_block({_BLOCK}, {_OPTIONS}) -> Tensor",
    f"msd_module({_BLOCK}, Tensor final_weight, Tensor final_bias, {_OPTIONS}) -> Tensor",
    f"_network({_CALL}) -> Tensor",
    f"_record({_CALL}) -> Tensor[]",
    "_differentiate(Tensor grad_output, Tensor planes, Tensor[] weights, Tensor bias,"
    " Tensor? final_weight, SymInt[] size, int[] dilations, str padding, str impl, bool[] needed)"
    " -> Tensor[]",
):
    LIBRARY.define(_schema, tags=(torch.Tag.pt2_compliant_tag,))

msd_block = torch.ops.msdtool.msd_block.default
msd_module = torch.ops.msdtool.msd_module.default
network = torch.ops.msdtool._network.default
record = torch.ops.msdtool._record.default
differentiate = torch.ops.msdtool._differentiate.default


class Call(NamedTuple):
    """Arguments of the private operators, all checked.

    Attributes:
        input: [B, c_in, *space], in a dtype that the engine takes, as the parameters.
        weights, bias, final_weight, final_bias: as in `Parameters`.
        dilations, padding: as in `shape_of`.
        impl: name of an engine.
    """

    input: Tensor
    weights: Sequence[Tensor]
    bias: Tensor
    final_weight: Tensor | None
    final_bias: Tensor | None
    dilations: Sequence[int]
    padding: str
    impl: str

    @property
    def parameters(self) -> Parameters:
        """Parameters of the block and of its final layer."""
        return Parameters(*self[1:5])

    @property
    def engine_type(self) -> type[Engine]:
        """The engine of that name."""
        return engines.engine_type(self.impl, self.input.device)

    @property
    def shape(self) -> BlockShape:
        """Sizes of the block and the batch."""
        return _shape(self.input.shape, self.parameters, self.dilations, self.padding)


def _shape(
    size: Sequence[int], parameters: Parameters, dilations: Sequence[int], padding: str
) -> BlockShape:
    """`shape_of`; sizes that a graph leaves open become fixed, as the planes depend on them."""
    return shape_of([int(n) for n in size], parameters, dilations, padding)


def compute_block(
    input: Tensor,
    weights: Sequence[Tensor],
    bias: Tensor,
    dilations: Sequence[int],
    padding: str = "symmetric",
    impl: str = "auto",
) -> Tensor:
    check_block(input.shape, weights, bias, dilations, padding)
    return _compute(input, Parameters(weights, bias), dilations, padding, impl)


def compute_module(
    input: Tensor,
    weights: Sequence[Tensor],
    bias: Tensor,
    final_weight: Tensor,
    final_bias: Tensor,
    dilations: Sequence[int],
    padding: str = "symmetric",
    impl: str = "auto",
) -> Tensor:
    check_block(input.shape, weights, bias, dilations, padding)
    check_final(input.shape[1] + len(bias), final_weight, final_bias)
    parameters = Parameters(weights, bias, final_weight, final_bias)
    return _compute(input, parameters, dilations, padding, impl)


def _compute(
    input: Tensor, parameters: Parameters, dilations: Sequence[int], padding: str, impl: str
) -> Tensor:
    check_same_kind(input, parameters.tensors())
    check_impl(impl, engines.IMPLEMENTATIONS)
    if impl == "auto":
        impl = engines.implementation_for(input.device, input.dtype)
    dtype = engines.dtype_for(impl, input.dtype)
    images, given = input.to(dtype), parameters.to(dtype)
    if impl == engines.REFERENCE:
        output = reference.compute(images, given, dilations, padding)
    else:
        call = Call(images, *given, dilations, padding, impl)
        plain = is_plain(images, *given.tensors())
        output = _compute_network(call) if plain else network(*call)
    return output.to(input.dtype)


def is_plain(*tensors: Tensor) -> bool:
    """Whether nothing but autograd takes part in what is computed with tensors, which have memory.

    Then passes are called as they are: the dispatcher takes 0.2 ms to hand some 30 tensors to
    Python and back, a tenth of the time of an image of 64 x 64 pixels.
    """
    return (
        _PLAIN.issuperset(map(type, tensors))
        and not torch.compiler.is_compiling()
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._get_tracing_state()
        and not torch.autograd.profiler._is_profiler_enabled
    )


def _compute_network(call: Call) -> Tensor:
    """The kernel of ``_network`` under autograd, and what plain calls do."""
    tensors = call.parameters.tensors()
    if _records(call.input, *tensors):
        weights, *others = call.parameters
        recorded: Tensor = _apply(_Network, call[5:], call.input, *others, *weights)
        return recorded
    if is_plain(call.input, *tensors):
        return _infer(*call)
    with torch._C._AutoDispatchBelowAutograd():
        output: Tensor = network(*call)
    return output


def _without_derivative(operator: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
    """The operator, whose results refuse to be differentiated."""

    def kernel(*arguments: Any) -> list[Tensor]:
        with torch._C._AutoDispatchBelowAutograd():
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
    if forward_ad._current_level < 0:  # none has a tangent; to ask each takes 40 us
        return False
    return any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors)


def _apply(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    """Apply a function to tensors as they are.

    `Function.apply` would start all transformations of `torch.func` that are active. But an
    operator is called by one of them, after those inside it; torch itself applies functions for one
    of them by the same two names.
    """
    apply = super(torch.autograd.Function, function).apply  # type: ignore[misc]
    if not torch._C._are_functorch_transforms_active():
        return apply(*arguments)
    with enable_single_level_autograd_function():
        return apply(*arguments)


@contextmanager
def _outer_recording() -> Iterator[None]:
    """Within a function's forward, let transformations of `torch.func` around its own record."""
    with torch.enable_grad(), forward_ad._set_fwd_grad_enabled(True):
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
            planes, result = _record_images(_record, call)
        else:
            with _outer_recording(), torch._C._AutoDispatchBelowAutograd():
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
            return None, *_gradients(*arguments).to(planes.dtype)
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


def _infer(*arguments: Any) -> Tensor:
    call = Call(*arguments)
    return passes.infer(call.engine_type, call.shape, call.input, call.parameters)


def _record(*arguments: Any) -> list[Tensor]:
    call = Call(*arguments)
    return passes.record(call.engine_type, call.shape, call.input, call.parameters)


def _gradients(
    grad_output: Tensor,
    planes: Tensor,
    weights: Sequence[Tensor],
    bias: Tensor,
    final_weight: Tensor | None,
    size: Sequence[int],
    dilations: Sequence[int],
    padding: str,
    impl: str,
    needed: Sequence[bool],
) -> Gradients:
    parameters = Parameters(weights, bias, final_weight)
    shape = _shape(size, parameters, dilations, padding)
    engine_type = engines.engine_type(impl, planes.device)
    return passes.differentiate(engine_type, shape, planes, parameters, grad_output, needed)


def _differentiate(*arguments: Any) -> list[Tensor]:
    """The gradients that are needed; of an operator's results none may share memory, so those of
    all weights, which do, are one, ``flat_weights``."""
    planes: Tensor = arguments[1]
    gradients = _gradients(*arguments)
    found = (
        gradients.input,
        gradients.bias,
        gradients.final_weight,
        gradients.final_bias,
        gradients.flat_weights,
    )
    return [grad.to(planes.dtype) for grad in found if grad is not None]


LIBRARY.impl("msd_block", compute_block, "CompositeImplicitAutograd")
LIBRARY.impl("msd_module", compute_module, "CompositeImplicitAutograd")
LIBRARY.impl("_network", _infer, "CompositeExplicitAutograd")
LIBRARY.impl("_record", _record, "CompositeExplicitAutograd")
LIBRARY.impl("_differentiate", _differentiate, "CompositeExplicitAutograd")
LIBRARY.impl("_network", lambda *arguments: _compute_network(Call(*arguments)), "Autograd")
LIBRARY.impl("_record", _without_derivative(record), "Autograd")
LIBRARY.impl("_differentiate", _without_derivative(differentiate), "Autograd")
