"""The functions that define a semifield and that its convolutions are computed with.

All functions work elementwise on tensors (a constant result may be a number), so they are written
with operators and torch's functions: ``torch.exp``, not ``math.exp``.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Unary = Callable[[Tensor], Tensor]
Binary = Callable[[Tensor, Tensor], Tensor]
Derivative = Callable[[Tensor, Tensor], Tensor | float]
# A linear convolution of an image and a kernel.
LinearConv = Callable[[Tensor, Tensor], Tensor]


class BroadcastOperations(NamedTuple):
    """A semifield by reductions of whole tensors."""

    add_reduce: Callable[[Tensor, tuple[int, ...]], Tensor]
    multiply: Binary
    zero: float
    add_reduce_channels: Callable[[Tensor, int], Tensor] | None = None


class SelectOperations(NamedTuple):
    """A semifield whose sum is one of its terms."""

    add_select: Binary  # (left, right) -> whether right replaces left
    times: Binary  # (img, kernel) -> img (x) kernel
    d_times_d_img: Derivative
    d_times_d_kernel: Derivative
    zero: float
    cache_name: str | None = None
    cuda: dict[str, str] | None = None


class SubtractOperations(NamedTuple):
    """A semifield whose sum can be undone, term by term."""

    add: Binary  # (acc, val) -> acc (+) val
    times: Binary
    d_times_d_img: Derivative
    d_times_d_kernel: Derivative
    subtract: Binary  # (res, val) -> acc with add(acc, val) = res
    d_add_d_right: Derivative  # (acc, val) -> derivative of add(acc, val) by val
    zero: float
    cache_name: str | None = None
    post_sum: Unary | None = None
    undo_post_sum: Unary | None = None
    d_post_d_acc: Unary | None = None
    cuda: dict[str, str] | None = None
    linear_form: Callable[[Tensor, Tensor, LinearConv], Tensor | None] | None = None


def check_elementwise(operations: SelectOperations | SubtractOperations) -> None:
    """Try every function on two values.

    Raises:
        ValueError: names a function that fails on tensors, returns an unsuitable result or is
            missing.
    """
    unary = ("post_sum", "undo_post_sum", "d_post_d_acc")
    if getattr(operations, "post_sum", None) is not None:
        for name in unary[1:]:
            if getattr(operations, name) is None:
                raise ValueError(f"post_sum of the semifield needs {name} as well")
    binary = ("times", "d_times_d_img", "d_times_d_kernel", "subtract", "d_add_d_right", "add")
    for name in (*binary, *unary, "add_select"):
        function = getattr(operations, name, None)
        if function is None:
            continue
        values = (torch.tensor([0.5, 0.25]),) * (1 if name in unary else 2)
        try:
            result = function(*values)
        except Exception as error:
            raise ValueError(
                f"{name} of the semifield fails on tensors: {error}. Write it with operators and "
                "torch's functions, such as torch.exp instead of math.exp"
            ) from error
        if isinstance(result, Tensor) and result.shape not in ((2,), ()):
            raise ValueError(
                f"{name} of the semifield maps shape (2,) to shape {tuple(result.shape)}; it must "
                "work elementwise"
            )
        if name == "add_select" and not (isinstance(result, Tensor) and result.dtype == torch.bool):
            raise ValueError("add_select of the semifield must return booleans, such as a < b")
