"""The public operators: arguments checked, an engine chosen, the rest left to the private ones."""

from collections.abc import Sequence

from torch import Tensor

from msdtool.ops import engines, reference
from msdtool.ops.checks import check_block, check_final, check_impl, check_same_kind
from msdtool.ops.engine import Parameters
from msdtool.ops.operators.arguments import Call, is_plain
from msdtool.ops.operators.autograd import compute_network
from msdtool.ops.operators.schemas import LIBRARY, network


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
        output = compute_network(call) if plain else network(*call)
    return output.to(input.dtype)


LIBRARY.impl("msd_block", compute_block, "CompositeImplicitAutograd")
LIBRARY.impl("msd_module", compute_module, "CompositeImplicitAutograd")
