"""2D convolution and ReLU that write their result into memory given by the caller.

Shapes: B batch, C_in and C_out channels, H, W pixels, k odd kernel size. Any floating-point dtype,
any device; all tensors of a call share both. On CUDA, float32 convolutions obey
``torch.backends.cudnn.allow_tf32``, which torch sets by default: switch it off for full precision.

Aliasing. ``output`` is plain memory, any part of a larger buffer, and needs no gradient. The result
is the same memory with the convolution as its history; the buffer itself has no history, so
gradients flow through the result alone. Writing moves the version counter of the buffer, which all
its channels share: a backward pass that still needs any of them raises torch's "modified by an
inplace operation". To keep channels for backward while others are written, as dense networks do,
take the slice of ``buffer.data``, anew for each call: every ``.data`` has a counter of its own.
Nothing then notices when the kept channels are overwritten after all. `msdtool.nn.MSDLayerModule`
does both right.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

from msdtool.ops.reference import pad


def conv2dInPlace(
    input: Tensor, weight: Tensor, bias: Tensor, output: Tensor, stride: int = 1, dilation: int = 1
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

    Returns:
        ``output``: a tensor of the same memory, shape and version counter, part of the graph.

    Raises:
        ValueError: a shape, dtype, stride or dilation does not fit, or ``output`` overlaps
            ``input`` or requires a gradient.
    """
    return Conv2dInPlaceFunction.apply(input, weight, bias, output, stride, dilation)


def conv_relu2dInPlace(
    input: Tensor, weight: Tensor, bias: Tensor, output: Tensor, stride: int = 1, dilation: int = 1
) -> Tensor:
    """Write the ReLU of `conv2dInPlace` into ``output``; the arguments are the same."""
    return ConvRelu2dInPlaceFunction.apply(input, weight, bias, output, stride, dilation)


class Conv2dInPlaceFunction(torch.autograd.Function):
    """The autograd function of `conv2dInPlace`; it can be differentiated once."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor,
        output: Tensor,
        stride: int,
        dilation: int,
    ) -> Tensor:
        _check_convolution(input, weight, bias, output, stride, dilation)
        result = _write(output, _convolve(input, weight, bias, stride, dilation))
        needs_input, needs_weight, *_ = ctx.needs_input_grad
        ctx.save_for_backward(input if needs_weight else None, weight if needs_input else None)
        ctx.sizes = input.shape, weight.shape, stride, dilation
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        return _convolution_gradients(ctx, input, weight, grad_output)


class ConvRelu2dInPlaceFunction(torch.autograd.Function):
    """The autograd function of `conv_relu2dInPlace`; it can be differentiated once.

    The ReLU's backward reads the output, so nothing is kept that the caller does not hold.
    """

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor,
        output: Tensor,
        stride: int,
        dilation: int,
    ) -> Tensor:
        _check_convolution(input, weight, bias, output, stride, dilation)
        result = _write(output, _convolve(input, weight, bias, stride, dilation).relu_())
        # The input is saved even for a frozen weight: an output of ``buffer.data`` cannot tell that
        # another pass overwrote the buffer, but the input's version counter can.
        ctx.save_for_backward(input, weight if ctx.needs_input_grad[0] else None, result)
        ctx.sizes = input.shape, weight.shape, stride, dilation
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, output = ctx.saved_tensors
        return _convolution_gradients(ctx, input, weight, _relu_gradient(output, grad_output))


class ReLUInplaceFunction(torch.autograd.Function):
    """``max(input, 0)`` written over ``input`` (any shape); it can be differentiated once."""

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        input.relu_()
        ctx.mark_dirty(input)
        ctx.save_for_backward(input)
        return input

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (output,) = ctx.saved_tensors
        return _relu_gradient(output, grad_output)


def _relu_gradient(output: Tensor, grad_output: Tensor) -> Tensor:
    """Gradient of a ReLU from its output, zero where the output is; NaN passes, as in torch."""
    return torch.ops.aten.threshold_backward(grad_output, output, 0)


def _convolve(input: Tensor, weight: Tensor, bias: Tensor, stride: int, dilation: int) -> Tensor:
    padded = pad(input, _margin(weight.shape, dilation), "symmetric")
    return F.conv2d(padded, weight, bias, stride, dilation=dilation)


def _write(output: Tensor, values: Tensor) -> Tensor:
    """Copy ``values`` into ``output``; return that memory as a tensor without history.

    ``ctx.mark_dirty(output)`` would do for an output that is no view. For one that is, such as a
    slice of a buffer, torch takes the function's first argument to be the tensor written to: the
    input's gradient would go to the buffer.
    """
    return output.copy_(values).detach()


def _convolution_gradients(
    ctx: Any, input: Tensor | None, weight: Tensor | None, grad_output: Tensor
) -> tuple[Tensor | None, ...]:
    """Gradients of forward's six arguments, None for those not asked for.

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
    return grad_input, grad_weight, grad_bias, None, None, None


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


def _check_convolution(
    input: Tensor, weight: Tensor, bias: Tensor, output: Tensor, stride: int, dilation: int
) -> None:
    """Raise ValueError for arguments that do not fit together."""
    if input.dim() != 4 or 0 in input.shape[1:]:
        raise ValueError(
            f"input has shape {tuple(input.shape)}; expected [B, C_in, H, W], no image empty"
        )
    batch, c_in, height, width = input.shape
    c_out, kernel_size = weight.shape[0], weight.shape[-1]
    if tuple(weight.shape) != (c_out, c_in, kernel_size, kernel_size) or kernel_size % 2 == 0:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}; expected [C_out, {c_in}, k, k] with k odd"
        )
    if tuple(bias.shape) != (c_out,):
        raise ValueError(f"bias has shape {tuple(bias.shape)}; expected ({c_out},)")
    if stride < 1:
        raise ValueError(f"stride is {stride}; allowed: 1 or more")
    if dilation < 1:
        raise ValueError(f"dilation is {dilation}; allowed: 1 or more")
    size, reach = min(height, width), kernel_size // 2
    if dilation * reach > size:
        raise ValueError(
            f"dilation {dilation} is too large for an image of size {size}: symmetric padding "
            f"for kernel size {kernel_size} allows at most {size // reach}"
        )
    expected = (batch, c_out, -(-height // stride), -(-width // stride))
    if tuple(output.shape) != expected:
        raise ValueError(f"output has shape {tuple(output.shape)}; expected {expected}")
    if output.requires_grad:
        raise ValueError(
            "output requires a gradient; it must be plain memory, such as output.detach()"
        )
    for name, tensor in (("weight", weight), ("bias", bias), ("output", output)):
        if (tensor.dtype, tensor.device) != (input.dtype, input.device):
            raise ValueError(
                f"{name} is {tensor.dtype} on {tensor.device}; "
                f"expected {input.dtype} on {input.device}, as the input"
            )
    _check_apart(input, output)


def _check_apart(input: Tensor, output: Tensor) -> None:
    """Raise ValueError if the two are slices of one buffer that have channels in common."""
    same_buffer = input.untyped_storage().data_ptr() == output.untyped_storage().data_ptr()
    if not same_buffer or input.stride() != output.stride() or output.numel() == 0:
        return
    offset = int(output.storage_offset()) - int(input.storage_offset())
    first, rest = divmod(offset, output.stride(1))  # output's first channel, from input's first
    if rest == 0 and -output.shape[1] < first < input.shape[1]:
        raise ValueError(
            f"output overlaps input: it starts {first} channels after the input, which has "
            f"{input.shape[1]}; give it channels of its own"
        )
