"""Layers without parameters that reshape, wrap or pass on, and the helper `by_ndim`.

Shapes: B batch, ... any other axes.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

Identity = nn.Identity
T = TypeVar("T")


def by_ndim(kinds: Sequence[T], ndim: int) -> T:
    """Return the one of three classes that is for ``ndim`` spatial axes.

    Raises:
        ValueError: ``ndim`` is not 1, 2 or 3.
    """
    if ndim not in (1, 2, 3):
        raise ValueError(f"ndim is {ndim}; allowed: 1, 2, 3")
    return kinds[ndim - 1]


def module(*fields: str, **defaults: Any) -> Callable[[Callable[..., Any]], type[nn.Module]]:
    """Return a decorator that turns a function into the ``forward`` of a new module class.

    >>> @module("factor", offset=0)
    ... def Affine(self, x):
    ...     return x * self.factor + self.offset
    >>> Affine(2, offset=1)
    Affine(factor=2, offset=1)

    Args:
        *fields: attributes that the constructor takes, in this order, by position or name.
        **defaults: further attributes, with their default values.

    Returns:
        A decorator; the function's first argument is the module.
    """
    parameter = inspect.Parameter
    signature = inspect.Signature(
        [parameter(name, parameter.POSITIONAL_OR_KEYWORD) for name in fields]
        + [
            parameter(name, parameter.POSITIONAL_OR_KEYWORD, default=default)
            for name, default in defaults.items()
        ]
    )

    def decorate(forward: Callable[..., Any]) -> type[nn.Module]:
        def __init__(self: nn.Module, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            nn.Module.__init__(self)
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            for name, value in bound.arguments.items():
                setattr(self, name, value)

        def extra_repr(self: nn.Module) -> str:
            return ", ".join(f"{name}={getattr(self, name)!r}" for name in signature.parameters)

        name = forward.__name__
        attributes = {
            "__init__": __init__,
            "__doc__": forward.__doc__,
            "__module__": forward.__module__,
            "__qualname__": forward.__qualname__,
            "__signature__": signature,
            "extra_repr": extra_repr,
            "forward": forward,
        }
        return type(name, (nn.Module,), attributes)

    return decorate


class Lambda(nn.Module):
    """A layer that calls a function.

    Args:
        func: maps the input to the output. Pickling the module requires an importable function.
    """

    def __init__(self, func: Callable[[Any], Any]) -> None:
        super().__init__()
        self.func = func

    def forward(self, input: Any) -> Any:
        """Return ``func(input)``."""
        return self.func(input)

    def extra_repr(self) -> str:
        return f"func={self.func}"


class PartialLambda(Lambda):
    """A layer that calls a function with fixed keyword arguments.

    Args:
        func: maps the input and the keyword arguments to the output.
        **kwargs: the keyword arguments.
    """

    def __init__(self, func: Callable[..., Any], **kwargs: Any) -> None:
        super().__init__(func)
        self.kwargs = kwargs

    def forward(self, input: Any) -> Any:
        """Return ``func(input, **kwargs)``."""
        return self.func(input, **self.kwargs)

    def extra_repr(self) -> str:
        return ", ".join([super().extra_repr(), *(f"{k}={v!r}" for k, v in self.kwargs.items())])


class Flatten(nn.Module):
    """Flatten all axes but the first.

    Args:
        full: flatten the first as well.
    """

    def __init__(self, full: bool = False) -> None:
        super().__init__()
        self.full = full

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, ...] to [B, n], or to [B*n] if ``full``."""
        return input.flatten() if self.full else input.reshape(len(input), -1)


class View(nn.Module):
    """Reshape the input.

    Args:
        *size: the new shape, batch axis included; -1 for one axis inferred from the rest.
    """

    def __init__(self, *size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, input: Tensor) -> Tensor:
        """Return the input's values in the shape ``size``."""
        return input.reshape(self.size)


class ResizeBatch(nn.Module):
    """Reshape each image of a batch.

    Args:
        *size: the new shape, without the batch axis.
    """

    def __init__(self, *size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, ...] to [B, *size]."""
        return input.reshape(len(input), *self.size)


class ToTensorBase(nn.Module):
    """View the input as another tensor class, for example a subclass as a plain `torch.Tensor`.

    Args:
        tensor_cls: the class.
    """

    def __init__(self, tensor_cls: type[Tensor] = Tensor) -> None:
        super().__init__()
        self.tensor_cls = tensor_cls

    def forward(self, input: Tensor) -> Tensor:
        """Return the same values as a ``tensor_cls``."""
        return input.as_subclass(self.tensor_cls)


class Debugger(nn.Module):
    """Stop in the debugger, with access to the input, on each forward pass."""

    def forward(self, input: Any) -> Any:
        """Return the input."""
        breakpoint()
        return input
