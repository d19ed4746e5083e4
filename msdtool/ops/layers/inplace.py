"""2D convolution and ReLU that write their result into memory of the caller.

Shapes: B batch, C_in and C_out channels, H, W pixels, k odd kernel size. Any floating-point dtype,
any device; all tensors of a call share both. On CUDA, float32 convolutions obey
``torch.backends.cudnn.allow_tf32``, which torch sets by default: switch it off for full precision.

Aliasing. ``output`` is memory, any part of a larger buffer. What was in it is lost, so no gradient
flows to it: it may require one where it is a leaf or a slice of a leaf, not as a result of a graph.
The result is the same memory with the convolution as its history; the buffer itself has no history,
so gradients flow through the result alone. Writing moves the version counter of the buffer, which
all its channels share. The functions here and those of `msdtool.ops.layers.stitch` know which
channels were written: a backward pass that needs others continues, one that needs these raises
torch's "modified by an inplace operation" (`msdtool.ops.layers.kept`). Operations of torch that
have saved a channel of the buffer refuse in both cases. Where they read channels while others are
written, take the slice of ``buffer.data`` as output, again for each call: every ``.data`` has a
counter of its own. Then nothing notices if what torch has saved is overwritten after all.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

from msdtool.ops.checks import check_convolution, check_impl
from msdtool.ops.cuda import convolution, launcher, sources
from msdtool.ops.cuda.convolution import Geometry, compute_dtype
from msdtool.ops.layers.kept import Kept, save, saved, writing
from msdtool.ops.reference import pad

IMPLEMENTATIONS = ("auto", "cuda", "torch")


def conv2dInPlace(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    output: Tensor,
    stride: int = 1,
    dilation: int = 1,
    impl: str = "auto",
) -> Tensor:
    """Convolve ``input`` into ``output``; beyond the border, the edge pixels are mirrored.

    ``output[b, o, y, x] = bias[o] + sum_{j, p, q} weight[o, j, p, q]
    * input[b, j, rho(stride*y + dilation*(p - k//2)), rho(stride*x + dilation*(q - k//2))]``
    where rho maps -1 -> 0, -2 -> 1, N -> N-1, N+1 -> N-2 (the edge pixel is repeated).

    Args:
        input: [B, C_in, H, W].
        weight: [C_out, C_in, k, k].
        bias: [C_out].
        output: [B, C_out, ceil(H / stride), ceil(W / stride)], overwritten; any strides. It may
            lie in the same buffer as ``input``, on other channels.
        stride: pixels from one output pixel to the next, 1 or more.
        dilation: pixels between taps; at most the image's smaller side for k = 3.
        impl: "cuda" is a kernel that reads input and writes output in place, "torch" pads a copy;
            "auto" chooses the kernel for tensors on a GPU where CuPy works.

    Returns:
        ``output``: a tensor of the same memory, shape and version counter, part of the graph.

    Raises:
        ValueError: a shape, dtype, stride or dilation does not fit, or ``output`` overlaps
            ``input`` or is part of a graph.
        KernelError: impl is "cuda" and kernels cannot run on the input's device.
    """
    return Conv2dInPlaceFunction.apply(input, weight, bias, output, stride, dilation, impl)


def conv_relu2dInPlace(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    output: Tensor,
    stride: int = 1,
    dilation: int = 1,
    impl: str = "auto",
) -> Tensor:
    """Write the ReLU of `conv2dInPlace` into ``output``; the arguments are the same."""
    return ConvRelu2dInPlaceFunction.apply(input, weight, bias, output, stride, dilation, impl)


def _forward(
    ctx: Any,
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    output: Tensor,
    stride: int,
    dilation: int,
    impl: str = "auto",
    *,
    relu: bool,
) -> Tensor:
    check_convolution(input, weight, bias, output, stride, dilation)
    ctx.by_kernel = _takes_kernel(impl, input)
    ctx.sizes = input.shape, weight.shape, stride, dilation
    result = _convolve_into(output, input, weight, bias, ctx, relu=relu)
    needs_input, needs_weight, *_ = ctx.needs_input_grad
    # With a ReLU the input is saved even for a frozen weight: an output of ``buffer.data`` cannot
    # tell that someone else overwrote the buffer, but the input's version counter can.
    save(
        ctx,
        input if needs_weight or relu else None,
        weight if needs_input else None,
        result if relu else None,  # the ReLU's backward reads what the caller holds anyway
    )
    return result


def _backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    input, weight, output = saved(ctx)
    if ctx.by_kernel:
        return _gradients_by_kernel(ctx, input, weight, output, grad_output)
    delta = grad_output if output is None else _relu_gradient(output, grad_output)
    return _convolution_gradients(ctx, input, weight, delta)


class Conv2dInPlaceFunction(torch.autograd.Function):
    """The autograd function of `conv2dInPlace`; it can be differentiated once."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        return _forward(ctx, *arguments, relu=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return _backward(ctx, grad_output)


class ConvRelu2dInPlaceFunction(torch.autograd.Function):
    """The autograd function of `conv_relu2dInPlace`; it can be differentiated once."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        return _forward(ctx, *arguments, relu=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return _backward(ctx, grad_output)


class ReLUInplaceFunction(torch.autograd.Function):
    """``max(input, 0)`` written over ``input`` (any shape); it can be differentiated once.

    The result is ``input`` itself. A leaf that requires a gradient stays a leaf, whose values are
    overwritten and whose gradient is that of the values before; the result is then another tensor
    of the same memory.
    """

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        leaf = input.is_leaf and input.requires_grad
        pending = 0 if leaf else 1  # mark_dirty is counted when forward has returned
        with writing(input, pending):
            input.relu_()
        if not leaf:
            ctx.mark_dirty(input)
        ctx.kept = Kept(input, pending) if any(ctx.needs_input_grad) else None
        return input.detach() if leaf else input

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return _relu_gradient(ctx.kept.get(), grad_output)


def _relu_gradient(output: Tensor, grad_output: Tensor) -> Tensor:
    """Gradient of a ReLU from its output, zero where the output is; NaN passes, as in torch."""
    return torch.ops.aten.threshold_backward(grad_output, output, 0)


def _takes_kernel(impl: str, input: Tensor) -> bool:
    check_impl(impl, IMPLEMENTATIONS)
    if impl == "cuda":
        launcher.require(impl, input.device)
        return True
    return impl == "auto" and input.dtype in sources.STORAGES and launcher.preferred(input.device)


def _convolve_into(
    output: Tensor, input: Tensor, weight: Tensor, bias: Tensor, ctx: Any, *, relu: bool
) -> Tensor:
    """Write the convolution to ``output``; return that memory as a tensor without history.

    ``ctx.mark_dirty(output)`` would do for an output that is not a view. For a view, such as a
    slice of a buffer, torch treats the function's first argument as the tensor written to: the
    input's gradient would go to the buffer.
    """
    if ctx.by_kernel:
        with writing(output):
            convolution.forward(input, weight, bias, output, _geometry(ctx), relu=relu)
            torch.autograd.graph.increment_version(output)
        return output.detach()
    *_, stride, dilation = ctx.sizes
    padded = pad(input, _margin(weight.shape, dilation), "symmetric")
    values = F.conv2d(padded, weight, bias, stride, dilation=dilation)
    with writing(output):
        output.copy_(values.relu_() if relu else values)
    return output.detach()


def _geometry(ctx: Any) -> Geometry:
    *_, stride, dilation = ctx.sizes
    return Geometry("symmetric", stride, dilation)


def _gradients_by_kernel(
    ctx: Any,
    input: Tensor | None,
    weight: Tensor | None,
    output: Tensor | None,
    grad_output: Tensor,
) -> tuple[Tensor | None, ...]:
    """Gradients of forward's seven arguments; arguments as in `_convolution_gradients`.

    Args:
        output: of the ReLU, if there was one.
        grad_output: gradient of the output, after any ReLU.
    """
    needs_input, needs_weight, needs_bias, *_ = ctx.needs_input_grad
    input_shape, weight_shape, *_ = ctx.sizes
    dtype = grad_output.dtype
    grads = grad_output.to(compute_dtype(dtype))
    grad_input = grad_weight = grad_bias = None
    if needs_input:
        assert weight is not None
        grad_input = grads.new_zeros(input_shape)
        convolution.backward_input(weight, output, grads, grad_input, _geometry(ctx))
    if needs_weight:
        assert input is not None
        grad_weight, grad_bias = convolution.backward_weight(
            input, weight_shape, output, grads, _geometry(ctx)
        )
    elif needs_bias:
        delta = grad_output if output is None else _relu_gradient(output, grad_output)
        grad_bias = delta.sum((0, 2, 3))
    found = (grad_input, grad_weight, grad_bias if needs_bias else None)
    return (*(None if grad is None else grad.to(dtype) for grad in found), *(None,) * 4)


def _convolution_gradients(
    ctx: Any, input: Tensor | None, weight: Tensor | None, grad_output: Tensor
) -> tuple[Tensor | None, ...]:
    """Gradients of forward's seven arguments, None for those not needed.

    Args:
        input: [B, C_in, H, W]; needed for the weight's gradient only.
        weight: [C_out, C_in, k, k]; needed for the input's gradient only.
        grad_output: gradient before any ReLU, shaped like the output.
    """
    needs_input, needs_weight, needs_bias, *_ = ctx.needs_input_grad
    input_shape, weight_shape, stride, dilation = ctx.sizes
    margin = _margin(weight_shape, dilation)
    grad_input = grad_weight = grad_bias = None
    if needs_input:
        assert weight is not None
        batch, channels, height, width = input_shape
        padded_shape = (batch, channels, height + 2 * margin, width + 2 * margin)
        grad_padded = conv2d_input(padded_shape, weight, grad_output, stride, dilation=dilation)
        grad_input = _fold_border(grad_padded, margin)
    if needs_weight:
        assert input is not None
        padded = pad(input, margin, "symmetric")
        grad_weight = conv2d_weight(padded, weight_shape, grad_output, stride, dilation=dilation)
    if needs_bias:
        grad_bias = grad_output.sum((0, 2, 3))
    return grad_input, grad_weight, grad_bias, None, None, None, None


def _margin(weight_shape: torch.Size, dilation: int) -> int:
    """How far a kernel reaches beyond its centre, in pixels."""
    return dilation * (weight_shape[-1] // 2)


def _fold_border(padded: Tensor, margin: int) -> Tensor:
    """Adjoint of symmetric padding: add the border to the pixels it repeats.

    Slices rather than ``index_add_``, which is not deterministic on CUDA.
    """
    for axis in (2, 3):
        size = padded.shape[axis] - 2 * margin
        inner = padded.narrow(axis, margin, size).clone()
        first, last = inner.narrow(axis, 0, margin), inner.narrow(axis, size - margin, margin)
        first.add_(padded.narrow(axis, 0, margin).flip(axis))
        last.add_(padded.narrow(axis, margin + size, margin).flip(axis))
        padded = inner
    return padded
