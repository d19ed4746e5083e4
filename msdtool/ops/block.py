"""The MSD block and module: public functions, which pick who computes them.

Pelt & Sethian, "A mixed-scale dense convolutional neural network for image analysis", PNAS 2018.
Shapes: B batch, C channels, *space two or three spatial axes (H, W or D, H, W).
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from msdtool.ops import kernels, reference
from msdtool.ops.checks import check_block, check_final, check_same_kind
from msdtool.ops.cuda import CudaNetwork
from msdtool.ops.cuda_engine import ProductEngine
from msdtool.ops.engines import blocked_engine, compiled_engine, fastest
from msdtool.ops.function import EngineNetwork
from msdtool.ops.fused import FusedEngine
from msdtool.ops.plain_engine import PlainEngine


class Implementation(Protocol):
    """One way to compute a block and a module; see the functions of these names."""

    @property
    def msd_block(self) -> Callable[..., Tensor]: ...

    @property
    def msd_module(self) -> Callable[..., Tensor]: ...


KERNELS = {
    "cuda": CudaNetwork(ProductEngine),
    "cuda-fused": CudaNetwork(FusedEngine),
    "cuda-plain": CudaNetwork(PlainEngine),
}
IMPLEMENTATIONS: dict[str, Implementation] = {
    "compiled": EngineNetwork(compiled_engine),
    "blocked": EngineNetwork(blocked_engine),
    **KERNELS,
    "reference": reference,
}


def msd_block(
    input: Tensor,
    weights: Sequence[Tensor],
    bias: Tensor,
    dilations: Sequence[int],
    padding: str = "symmetric",
    impl: str = "auto",
) -> Tensor:
    """Run the hidden layers of an MSD network (Pelt & Sethian, PNAS 2018, eq. 3).

    Layer i reads the c_in + width*i channels in front of it and adds ``width`` channels.
    float16 and bfloat16 are computed in float32, and by "cuda" kept as they are in between. Two
    runs give the same bits. The number of threads changes nothing in "compiled"; in "blocked" it
    changes how BLAS splits its sums, and so the rounding.

    Args:
        input: [B, c_in, *space], two or three spatial axes, floating point.
        weights: per layer [width, c_in + width*i, 3, 3(, 3)], dtype and device of the input.
        bias: [depth*width].
        dilations: one per layer, repeated from the start when there are fewer.
        padding: border rule, "symmetric", "reflect" or "zeros".
        impl: "compiled" is the engine in C++, built on first use by the system's compiler, for
            the CPU; "blocked" the one of torch's matrix products, for any device; "cuda" the same
            with CUDA kernels, "cuda-fused" with a kernel on tensor cores in place of the forward
            products (float32 rounded to TF32), "cuda-plain" one kernel per layer, all for a GPU
            with CuPy. The result of all these is a view of a wider buffer, so not contiguous.
            "reference" is plain torch, slow. "auto" takes "cuda" or "compiled" where it can be
            had, else "blocked".

    Returns:
        [B, c_in + width*depth, *space], the input channels first.

    Raises:
        ValueError: a shape, a dtype, a device, a dilation or a name does not fit.
        KernelError: impl is "compiled" and the library cannot be built, which holds the
            compiler's log; or impl is "cuda" and kernels cannot run on the input's device.
    """
    check_block(input.shape, weights, bias, dilations, padding)
    check_same_kind(input, (bias, *weights))
    implementation = _implementation(impl, input)
    wide_input, wide_bias, *wide_weights = _as_computed(implementation, input, bias, *weights)
    output = implementation.msd_block(wide_input, wide_weights, wide_bias, dilations, padding)
    return output.to(input.dtype)


def msd_module(
    input: Tensor,
    weights: Sequence[Tensor],
    bias: Tensor,
    final_weight: Tensor,
    final_bias: Tensor,
    dilations: Sequence[int],
    padding: str = "symmetric",
    impl: str = "auto",
) -> Tensor:
    """Run an MSD block and the final 1x1 layer over all its channels (ibid., eq. 4).

    Args:
        input, weights, bias, dilations, padding, impl: as for `msd_block`.
        final_weight: [c_out, c_in + width*depth, 1].
        final_bias: [c_out].

    Returns:
        [B, c_out, *space].

    Raises:
        ValueError, KernelError: as for `msd_block`.
    """
    check_block(input.shape, weights, bias, dilations, padding)
    check_final(input.shape[1] + len(bias), final_weight, final_bias)
    parameters = (bias, final_weight, final_bias, *weights)
    check_same_kind(input, parameters)
    implementation = _implementation(impl, input)
    wide_input, wide_bias, wide_final, wide_final_bias, *wide_weights = _as_computed(
        implementation, input, *parameters
    )
    output = implementation.msd_module(
        wide_input, wide_weights, wide_bias, wide_final, wide_final_bias, dilations, padding
    )
    return output.to(input.dtype)


def implementation_for(device: torch.device, dtype: torch.dtype) -> str:
    """Name of the implementation that "auto" stands for."""
    if kernels.preferred(device):
        return "cuda"
    return fastest(device, torch.promote_types(dtype, torch.float32))


def _implementation(impl: str, input: Tensor) -> Implementation:
    if impl == "auto":
        return IMPLEMENTATIONS[implementation_for(input.device, input.dtype)]
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"impl is {impl!r}; allowed: auto, {', '.join(IMPLEMENTATIONS)}")
    if impl in KERNELS:
        kernels.require(impl, input.device)
    return IMPLEMENTATIONS[impl]


def _as_computed(implementation: Implementation, *tensors: Tensor) -> list[Tensor]:
    """Tensors in the dtype that an implementation takes: kernels take any, others no 16 bits."""
    if implementation in KERNELS.values():
        return list(tensors)
    return [tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in tensors]
