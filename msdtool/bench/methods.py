"""The methods of computing a network that are compared, on CPUs and on GPUs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor, nn

from msdtool import ops
from msdtool.bench import naive, rivals
from msdtool.bench.cases import Case, Module
from msdtool.nn.graphs import GraphedNetwork
from msdtool.ops.engine import WORKSPACE_BYTES

ENGINE = "msdtool"
MAX_COMPILATIONS = 64


def _any_case(_case: Case) -> str:
    return ""


@dataclass(frozen=True)
class Method:
    """A method of computing the network.

    Attributes:
        name: shown in the results.
        module: has the arguments of `ops.msd_module`.
        step_bytes: estimates the memory of a step.
        obstacle: returns why it cannot compute a case, or "".
        symmetric: whether it supports symmetric padding; if not, it is measured with "reflect".
        dtype: of the tensors.
        tf32: whether matrix products may round their factors to TF32.
    """

    name: str
    module: Module
    step_bytes: Callable[[Case], int]
    obstacle: Callable[[Case], str] = _any_case
    symmetric: bool = False
    dtype: torch.dtype = torch.float32
    tf32: bool = False


def methods_for(device: torch.device) -> tuple[Method, ...]:
    """Return the methods that are measured on a device, the engine first."""
    return METHODS + (GPU_METHODS if device.type == "cuda" else ())


def _engine_bytes(case: Case) -> int:
    return 2 * case.buffer_bytes + WORKSPACE_BYTES


def _not_naive(case: Case) -> str:
    fits = (case.ndim, case.width, case.batch, case.padding) == (2, 1, 1, "symmetric")
    if fits and case.channels <= naive.MAX_CHANNELS:
        return ""
    return "not run: only for one image in 2D, width 1, symmetric padding"


def as_graphs(
    input: Tensor,
    weights: Sequence[nn.Parameter],
    bias: nn.Parameter,
    final_weight: nn.Parameter,
    final_bias: nn.Parameter,
    dilations: Sequence[int],
    padding: str,
    impl: str = "auto",
) -> Tensor:
    """Compute `ops.msd_module` through CUDA graphs; those of the last few networks are kept."""
    parameters = (bias, final_weight, final_bias, *weights)
    key = tuple(parameter.data_ptr() for parameter in parameters)
    if key not in _graphs:
        if len(_graphs) == MAX_NETWORKS:
            del _graphs[next(iter(_graphs))]
        _graphs[key] = GraphedNetwork(_Network(parameters, dilations, padding, impl))
    output: Tensor = _graphs[key](input)
    return output


_graphs: dict[tuple[int, ...], GraphedNetwork] = {}


class _Network(nn.Module):
    """The parameters of a problem as a module."""

    def __init__(
        self, parameters: Sequence[nn.Parameter], dilations: Sequence[int], padding: str, impl: str
    ) -> None:
        super().__init__()
        self.all = nn.ParameterList(parameters)
        self.dilations, self.padding, self.impl = dilations, padding, impl

    def forward(self, input: Tensor) -> Tensor:
        bias, final_weight, final_bias, *weights = self.all
        return ops.msd_module(
            input, weights, bias, final_weight, final_bias, self.dilations, self.padding, self.impl
        )


def compiled(*arguments: object) -> Tensor:
    """Compute `rivals.concatenate` compiled by torch.compile."""
    output: Tensor = _compiled()(*arguments)
    return output


@cache
def _compiled() -> Callable[..., Tensor]:
    # Recompiled for every size, with and without gradients. Beyond the limit, 8 by default, torch
    # would continue uncompiled, which the figures would not show.
    torch._dynamo.config.cache_size_limit = MAX_COMPILATIONS
    return torch.compile(rivals.concatenate, dynamic=False)


METHODS = (
    Method(ENGINE, ops.msd_module, _engine_bytes, symmetric=True),
    Method("torch.cat + conv", rivals.concatenate, rivals.concatenate_bytes),
    Method("in-place conv", rivals.in_place, rivals.in_place_bytes),
)
GPU_METHODS = (
    Method("msdtool, TF32", ops.msd_module, _engine_bytes, symmetric=True, tf32=True),
    Method(
        "msdtool, bfloat16", ops.msd_module, _engine_bytes, symmetric=True, dtype=torch.bfloat16
    ),
    Method("msdtool, float16", ops.msd_module, _engine_bytes, symmetric=True, dtype=torch.float16),
    *(
        Method(
            f"msdtool, CUDA graphs{precision}",
            as_graphs,
            _engine_bytes,
            symmetric=True,
            dtype=dtype,
            tf32=tf32,
        )
        for precision, dtype, tf32 in (
            ("", torch.float32, False),
            (", TF32", torch.float32, True),
            (", bfloat16", torch.bfloat16, False),
        )
    ),
    Method(
        "a kernel per layer",
        partial(ops.msd_module, impl="cuda-plain"),
        _engine_bytes,
        symmetric=True,
    ),
    Method("naive kernels", naive.per_layer, _engine_bytes, _not_naive, symmetric=True),
    Method("torch.compile of torch.cat + conv", compiled, rivals.concatenate_bytes),
)
MAX_NETWORKS = sum("graphs" in method.name for method in GPU_METHODS)  # they take turns
