"""Stitching: networks whose layers all write into one buffer, with the gradient threaded through.

Layer buffer ``L`` and gradient buffer ``G`` are [B, C, *space], memory without a history. A layer's
output lies in ``L`` at channel i, and a stitch passes all channels up to and including it,
``L[:, :i + c]``, to the next layer, with c the number of channels of the stitched ``input``. In the
backward pass, the gradients from all readers of these channels are summed in ``G``.

- `stitchSlow` concatenates: slow and simple, for tests.
- `stitchCopy` copies its input into ``L``.
- `stitchLazy` assumes that the input already lies there, written by `conv2dInPlace` for instance.

``G`` must be zero when a backward pass begins. A gradient of the size of ``G`` shows that one
begins, so ``G`` is zeroed then; if the last stitch leaves out channels of ``G``, the caller calls
``G.zero_()``. Layers must be stitched in the order of their channels, and each stitch that reads a
channel must come after the one that wrote it.

Copying to channel 0 starts a new pass through ``L``, so it moves ``L``'s version counter: a
backward pass that still needs the channels of an earlier pass raises torch's "modified by an
inplace operation". Copying to later channels does not, as the earlier ones stay as they are.
`msdtool.nn.StitchBuffer` gives each pass memory of its own where an earlier one still needs its.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from msdtool.ops.checks import check_memory
from msdtool.ops.layers.kept import Kept, writing


def stitchSlow(input1: Tensor, input2: Tensor) -> Tensor:
    """Concatenate [B, C1, *space] and [B, C2, *space] to a new [B, C1 + C2, *space]."""
    return StitchSlowFunction.apply(input1, input2)


def stitchCopy(input: Tensor, L: Tensor, G: Tensor, i: int) -> Tensor:
    """Copy ``input`` into ``L`` at channel ``i`` and return ``L`` up to and including it.

    Args:
        input: [B, c, *space].
        L: layers [B, C, *space], dtype and device of the input; C >= i + c.
        G: gradients, like ``L``.
        i: first channel of the copy.

    Returns:
        ``L[:, :i + c]``, not a copy. Its gradient is added to ``G[:, :i + c]``, and the gradient of
        ``input`` is ``G[:, i:i + c]`` after that (copied, since ``G`` changes later).

    Raises:
        ValueError: a shape, dtype, device or channel does not fit, or ``L`` or ``G`` is part of a
            graph.
    """
    return StitchCopyFunction.apply(input, L, G, i)


def stitchLazy(input: Tensor, L: Tensor, G: Tensor, i: int) -> Tensor:
    """Return ``L`` up to and including ``input``, which already lies in ``L`` at channel ``i``.

    Nothing is written; the arguments, the result and the gradient are those of `stitchCopy`.

    Raises:
        ValueError: as for `stitchCopy`, or other values lie in ``L`` at channel ``i``.
    """
    return StitchLazyFunction.apply(input, L, G, i)


class StitchSlowFunction(torch.autograd.Function):
    """The autograd function of `stitchSlow`; it can be differentiated any number of times."""

    @staticmethod
    def forward(ctx: Any, input1: Tensor, input2: Tensor) -> Tensor:
        ctx.channels = input1.shape[1], input2.shape[1]
        return torch.cat([input1, input2], dim=1)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, ...]:
        return grad_output.split(ctx.channels, dim=1)


class _Stitch(torch.autograd.Function):
    """What both stitches do once the input lies in ``L``, and their backward pass."""

    @staticmethod
    def stitch(ctx: Any, input: Tensor, L: Tensor, G: Tensor, i: int) -> Tensor:
        """Return the first channels of ``L`` up to the input's."""
        # Not saved for backward: G changes in the course of every backward pass.
        ctx.G = G
        # The layers that read L may be torch's own, of which only the stitches know.
        ctx.kept = Kept(L) if any(ctx.needs_input_grad) else None
        ctx.channels = i, input.shape[1]
        # Detached, the result shares L's memory and version counter but is not a view to autograd,
        # which would otherwise pass the gradient through L as well.
        return L.narrow(1, 0, i + input.shape[1]).detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Add [B, i + c, *space] to ``G``; return the gradient of the input [B, c, *space]."""
        G: Tensor = ctx.G
        ctx.kept.awaited = False
        if grad_output.shape == G.shape:
            G.zero_()
        G.narrow(1, 0, grad_output.shape[1]).add_(grad_output)
        return G.narrow(1, *ctx.channels).clone(), None, None, None


class StitchCopyFunction(_Stitch):
    """The autograd function of `stitchCopy`; it can be differentiated once."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, L: Tensor, G: Tensor, i: int) -> Tensor:
        _check_stitch(input, L, G, i)
        source = L if i == 0 else L.data  # .data leaves L's version counter alone
        target = source.narrow(1, i, input.shape[1])
        with writing(target):
            target.copy_(input)
        return _Stitch.stitch(ctx, input, L, G, i)


class StitchLazyFunction(_Stitch):
    """The autograd function of `stitchLazy`; it can be differentiated once."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, L: Tensor, G: Tensor, i: int) -> Tensor:
        _check_stitch(input, L, G, i)
        _check_lies_in(L, input, i)
        return _Stitch.stitch(ctx, input, L, G, i)


def _check_stitch(input: Tensor, L: Tensor, G: Tensor, i: int) -> None:
    """Raise ValueError for a buffer that ``input`` does not fit at channel ``i``."""
    for name, buffer in (("L", L), ("G", G)):
        check_memory(name, buffer)
    if (L.shape, L.dtype, L.device) != (G.shape, G.dtype, G.device):
        raise ValueError(f"G is {_describe(G)}; expected the same as L, {_describe(L)}")
    fits = (
        input.dim() == L.dim() >= 2
        and input.shape[0] == L.shape[0]
        and input.shape[2:] == L.shape[2:]
        and (input.dtype, input.device) == (L.dtype, L.device)
    )
    if not fits:
        raise ValueError(
            f"input is {_describe(input)}, the buffer {_describe(L)}; only the number of channels "
            f"may differ. StitchBuffer.like_ makes buffers that fit"
        )
    if i < 0 or i + input.shape[1] > L.shape[1]:
        raise ValueError(
            f"{input.shape[1]} channels at channel {i} do not fit a buffer of {L.shape[1]} channels"
        )


def _check_lies_in(L: Tensor, input: Tensor, i: int) -> None:
    """Raise ValueError unless the input, or a copy of it, lies in ``L`` at channel ``i``."""
    there = L.narrow(1, i, input.shape[1])
    same_memory = (there.data_ptr(), there.stride()) == (input.data_ptr(), input.stride())
    if not same_memory and not torch.allclose(there, input, rtol=0, atol=0, equal_nan=True):
        raise ValueError(
            f"input does not lie in L at channel {i}: other values do. Have the layer before write "
            "to this slice of L, taken again before each pass"
        )


def _describe(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype} on {tensor.device}"
