"""What torch asks of the operators beside their results.

Fake tensors: shape, strides and dtype of the results. Autocast: arguments in its dtype, as for
torch's own convolutions. vmap: the samples one after another.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from msdtool.ops.operators import schemas
from msdtool.ops.operators.arguments import Call
from msdtool.ops.operators.schemas import LIBRARY

AUTOCAST_KEYS = ("AutocastCPU", "AutocastCUDA")
PUBLIC = {"msd_block": schemas.msd_block, "msd_module": schemas.msd_module}
PRIVATE = {
    "_network": schemas.network,
    "_record": schemas.record,
    "_differentiate": schemas.differentiate,
}


def _network_fake(*arguments: Any) -> Tensor:
    call = Call(*arguments)
    if call.final_bias is not None:
        return _output(call)
    engine = call.engine_type(call.shape, call.input)
    return engine.images(engine.new_planes(call.input))


def _record_fake(*arguments: Any) -> list[Tensor]:
    call = Call(*arguments)
    planes = call.engine_type(call.shape, call.input).new_planes(call.input)
    return [planes] if call.final_bias is None else [planes, _output(call)]


def _output(call: Call) -> Tensor:
    assert call.final_bias is not None
    return call.input.new_empty(len(call.input), len(call.final_bias), *call.input.shape[2:])


def _differentiate_fake(
    grad_output: Tensor,  # noqa: ARG001
    planes: Tensor,
    weights: Sequence[Tensor],
    bias: Tensor,
    final_weight: Tensor | None,
    size: Sequence[int],
    dilations: Sequence[int],  # noqa: ARG001
    padding: str,  # noqa: ARG001
    impl: str,  # noqa: ARG001
    needed: Sequence[bool],
) -> list[Tensor]:
    final_sizes = [(), ()] if final_weight is None else [final_weight.shape, final_weight.shape[:1]]
    num_weights = sum(weight.numel() for weight in weights)
    sizes = [size, bias.shape, *final_sizes, (num_weights,)]
    wanted = [*needed[:4], any(needed[4:])]
    return [planes.new_empty(size) for size, asked in zip(sizes, wanted, strict=True) if asked]


def _autocast(operator: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The operator on arguments in autocast's dtype; those in float64 stay, as for torch's own."""

    def cast(value: Any, dtype: torch.dtype) -> Any:
        if isinstance(value, Tensor):
            is_cast = value.is_floating_point() and value.dtype != torch.float64
            return value.to(dtype) if is_cast else value
        return [cast(item, dtype) for item in value] if isinstance(value, list) else value

    def kernel(input: Tensor, *arguments: Any) -> Tensor:
        device = input.device.type
        dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            return operator(*(cast(value, dtype) for value in (input, *arguments)))

    return kernel


def _one_by_one(operator: Callable[..., Any]) -> Callable[..., Any]:
    """A rule of vmap: samples one after another, their results along a new first axis."""

    def sample(value: Any, axis: Any, index: int) -> Any:
        if isinstance(axis, list | tuple):
            return [sample(*pair, index) for pair in zip(value, axis, strict=True)]
        return value if axis is None else value.select(axis, index)

    def rule(info: Any, axes: tuple[Any, ...], *arguments: Any) -> Any:
        results = [
            operator(*(sample(*pair, index) for pair in zip(arguments, axes, strict=True)))
            for index in range(info.batch_size)
        ]
        if isinstance(results[0], Tensor):
            return torch.stack(results), 0
        stacked = [torch.stack(parts) for parts in zip(*results, strict=True)]
        return stacked, [0] * len(stacked)

    return rule


for _name, _fake in (
    ("_network", _network_fake),
    ("_record", _record_fake),
    ("_differentiate", _differentiate_fake),
):
    torch.library.register_fake(f"msdtool::{_name}", _fake, lib=LIBRARY)
for _name, _operator in PUBLIC.items():
    for _key in AUTOCAST_KEYS:
        LIBRARY.impl(_name, _autocast(_operator), _key)
for _name, _operator in (PUBLIC | PRIVATE).items():
    torch.library.register_vmap(f"msdtool::{_name}", _one_by_one(_operator), lib=LIBRARY)
