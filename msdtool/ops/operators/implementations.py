"""What the private operators do where autograd takes no part: passes on an engine."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from msdtool.ops import engines
from msdtool.ops.engine import Gradients, Parameters
from msdtool.ops.operators import passes
from msdtool.ops.operators.arguments import Call, fixed_shape
from msdtool.ops.operators.schemas import LIBRARY


def infer(*arguments: Any) -> Tensor:
    call = Call(*arguments)
    return passes.infer(call.engine_type, call.shape, call.input, call.parameters)


def record(*arguments: Any) -> list[Tensor]:
    call = Call(*arguments)
    return passes.record(call.engine_type, call.shape, call.input, call.parameters)


def gradients(
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
    shape = fixed_shape(size, parameters, dilations, padding)
    engine_type = engines.engine_type(impl, planes.device)
    return passes.differentiate(engine_type, shape, planes, parameters, grad_output, needed)


def differentiate(*arguments: Any) -> list[Tensor]:
    """The gradients that are needed; of an operator's results none may share memory, so those of
    all weights, which do, are one, ``flat_weights``."""
    planes: Tensor = arguments[1]
    computed = gradients(*arguments)
    found = (
        computed.input,
        computed.bias,
        computed.final_weight,
        computed.final_bias,
        computed.flat_weights,
    )
    return [grad.to(planes.dtype) for grad in found if grad is not None]


LIBRARY.impl("_network", infer, "CompositeExplicitAutograd")
LIBRARY.impl("_record", record, "CompositeExplicitAutograd")
LIBRARY.impl("_differentiate", differentiate, "CompositeExplicitAutograd")
