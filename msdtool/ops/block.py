"""The MSD block and module: the public functions, which check arguments and choose an engine.

Pelt & Sethian, "A mixed-scale dense convolutional neural network for image analysis", PNAS 2018.
Shapes: B batch, C channels, *space two or three spatial axes (H, W or D, H, W).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from msdtool.ops import operators
from msdtool.ops.checks import whole_dilations


def msd_block(
    input: Tensor,
    weights: Sequence[Tensor],
    bias: Tensor,
    dilations: Sequence[int],
    padding: str = "symmetric",
    impl: str = "auto",
) -> Tensor:
    """Run the hidden layers of an MSD network (Pelt & Sethian, PNAS 2018, eq. 3).

    Layer i reads the c_in + width*i channels before it and adds ``width`` channels. float16 and
    bfloat16 are computed in float32, and only the CUDA engines keep them as they are in between.
    Two runs produce the same bits. With "compiled" the number of threads changes nothing; with
    "torch" it changes how BLAS splits its sums, and so the rounding.

    Args:
        input: [B, c_in, *space], two or three spatial axes, floating point.
        weights: per layer [width, c_in + width*i, 3, 3(, 3)], dtype and device of the input.
        bias: [depth*width].
        dilations: one per layer, repeated from the start when there are fewer.
        padding: border rule, "symmetric", "reflect" or "zeros".
        impl: "compiled" is the engine in C++ for the CPU, built on first use by the system's
            compiler; "torch" computes by PyTorch's matrix products on any device. "cuda" does the
            same with CUDA kernels, forward on tensor cores in 2D (float32 in three products, or
            rounded to TF32 where `torch.set_float32_matmul_precision` allows it), "cuda-plain" with
            one kernel per layer, both for a GPU with CuPy. The result of all these is a view of a
            wider buffer, so it is not contiguous. "reference" is plain PyTorch, slow. "auto"
            chooses "cuda" or "compiled" where it is available, else "torch".

    Returns:
        [B, c_in + width*depth, *space], the input channels first.

    Raises:
        ValueError: a shape, a dtype, a device, a dilation or a name does not fit.
        KernelError: impl is "compiled" and the library cannot be built (the message holds the
            compiler's log), or impl names CUDA kernels and they cannot run on the input's device.
        DoesNotFit: there is not enough memory for the workspace of "compiled".
    """
    if _is_eager(input, bias, *weights):
        return operators.compute_block(input, weights, bias, dilations, padding, impl)
    steps = whole_dilations(dilations)
    output: Tensor = operators.msd_block(input, list(weights), bias, steps, padding, impl)
    return output


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
        ValueError, KernelError, DoesNotFit: as for `msd_block`.
    """
    final = final_weight, final_bias
    if _is_eager(input, bias, *final, *weights):
        return operators.compute_module(input, weights, bias, *final, dilations, padding, impl)
    steps = whole_dilations(dilations)
    output: Tensor = operators.msd_module(input, list(weights), bias, *final, steps, padding, impl)
    return output


def _is_eager(*tensors: Tensor) -> bool:
    """Whether a call does without the dispatcher, which then has nothing to do."""
    return operators.is_plain(*tensors) and not is_cast(tensors[0].device.type)


def is_cast(device: str) -> bool:
    """Whether autocast is on for a type of devices; some, as "meta", have none."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
