"""Inspecting models, and losses without reduction."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn


class ParameterModule(nn.Module):
    """A module that holds a single parameter and passes its input on.

    Args:
        p: the parameter.
    """

    def __init__(self, p: nn.Parameter) -> None:
        super().__init__()
        self.val = p

    def forward(self, input: Any) -> Any:
        """Return the input."""
        return input


def children_and_parameters(m: nn.Module) -> list[nn.Module]:
    """Return a module's children, followed by the parameters that belong to none of them."""
    children = list(m.children())
    owned = {id(parameter) for child in children for parameter in child.parameters()}
    own = [p for p in m.parameters(recurse=False) if id(p) not in owned]
    return children + [ParameterModule(p) for p in own]


def has_children(m: nn.Module) -> bool:
    """Whether a module contains other modules."""
    return any(True for _ in m.children())


def flatten_model(m: nn.Module) -> list[nn.Module]:
    """Return the modules without children in a model, and the parameters outside them."""
    if not has_children(m):
        return [m]
    return [leaf for part in children_and_parameters(m) for leaf in flatten_model(part)]


def in_channels(m: nn.Module) -> int:
    """Return the input channels of a model's first convolution.

    Raises:
        ValueError: the model has no convolution.
    """
    for part in m.modules():
        if isinstance(part, nn.modules.conv._ConvNd):
            return part.in_channels
    raise ValueError("the model has no convolution to read the input channels from")


@contextmanager
def NoneReduce(loss_func: Callable[..., Tensor]) -> Iterator[Callable[..., Tensor]]:
    """Context in which a loss returns all its values instead of their mean or sum.

    Args:
        loss_func: a module with an attribute, or a function with an argument ``reduction``. A
            module itself is changed within the context.
    """
    if not hasattr(loss_func, "reduction"):
        yield partial(loss_func, reduction="none")
        return
    reduction = loss_func.reduction
    loss_func.reduction = "none"
    try:
        yield loss_func
    finally:
        loss_func.reduction = reduction
