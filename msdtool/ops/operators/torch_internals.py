"""What the operators use of torch that has no public name, each with what replaces it.

A release of torch may rename any of these. Without one, a plain call and its gradients are computed
as ever, the dispatcher's slower way where it is not known whether something else takes part; what
would be wrong without it is refused.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import _C, Tensor
from torch.autograd import forward_ad, profiler

try:
    from torch._functorch import utils as functorch
except ImportError:
    functorch = None  # type: ignore[assignment]


def transforms_active() -> bool:
    """Whether a transformation of `torch.func` runs; True where torch does not tell."""
    active = getattr(_C, "_are_functorch_transforms_active", None)
    return active is None or active()


def modes_active() -> bool:
    """Whether a mode such as that of fake tensors sees all operators; True where torch does not
    tell."""
    count = getattr(_C, "_len_torch_dispatch_stack", None)
    return count is None or count() > 0


def is_profiled() -> bool:
    """Whether a profiler runs; True where torch does not tell."""
    return bool(getattr(profiler, "_is_profiler_enabled", True))


def has_tangent(*tensors: Tensor) -> bool:
    """Whether forward mode differentiates by one of the tensors."""
    if getattr(forward_ad, "_current_level", 0) < 0:  # to ask each takes 40 us
        return False
    return any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors)


def below_autograd() -> AbstractContextManager[Any]:
    """Within it, operators are called as if autograd did not exist, but all else does.

    Raises:
        NotImplementedError: torch lacks it.
    """
    guard = getattr(_C, "_AutoDispatchBelowAutograd", None)
    if guard is None:
        raise _lacking("torch._C._AutoDispatchBelowAutograd")
    return guard()


def forward_mode() -> AbstractContextManager[Any]:
    """Within it, forward mode records, as `torch.enable_grad` lets reverse mode.

    Raises:
        NotImplementedError: torch lacks it, and there may be a transformation to record.
    """
    enabled = getattr(forward_ad, "_set_fwd_grad_enabled", None)
    if enabled is not None:
        return enabled(True)
    if transforms_active():
        raise _lacking("torch.autograd.forward_ad._set_fwd_grad_enabled")
    return nullcontext()


def one_transform() -> AbstractContextManager[Any]:
    """Within it, a function is applied for one of the transformations of `torch.func` only.

    Raises:
        NotImplementedError: torch lacks it, and there may be transformations.
    """
    if not transforms_active():
        return nullcontext()
    single = getattr(functorch, "enable_single_level_autograd_function", None)
    if single is None:
        raise _lacking("torch._functorch.utils.enable_single_level_autograd_function")
    return single()


def _lacking(name: str) -> NotImplementedError:
    return NotImplementedError(
        f"torch {torch.__version__} has no {name}, without which its transformations cannot go "
        "through an MSD network; call it outside of them, with impl='reference', or with another "
        "release of torch"
    )
