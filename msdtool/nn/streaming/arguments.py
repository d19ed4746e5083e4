"""What streaming layers accept as arguments."""

from collections.abc import Sequence

from torch import Tensor


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise ValueError for another choice than the allowed ones."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")


def per_axis(name: str, value: int | Sequence[int], axes: Sequence[int]) -> tuple[int, int, int]:
    """Return one number for each of T, X and Y; 1 for axes that are not among ``axes``.

    Raises:
        ValueError: a number is not positive, or there are more or fewer than axes.
    """
    given = [value] * len(axes) if isinstance(value, int) else list(value)
    if len(given) != len(axes) or min(given) < 1:
        raise ValueError(f"{name} is {value}; expected a positive number, or {len(axes)} of them")
    full = [1, 1, 1]
    for axis, number in zip(axes, given, strict=True):
        full[axis] = number
    return full[0], full[1], full[2]


def as_kernel(weight: Tensor) -> Tensor:
    """Expand a kernel of 1, 2, 3 or 5 axes to [out, in / groups, T, X, Y].

    Raises:
        ValueError: it has another number of axes.
    """
    if weight.dim() == 1:
        return weight[None, None, :, None, None]
    if weight.dim() == 2:
        return weight[None, None, None]
    if weight.dim() == 3:
        return weight[None, None]
    if weight.dim() == 5:
        return weight
    raise ValueError(
        f"a kernel has shape {tuple(weight.shape)}; expected 1 axis (time), 2 (X, Y), 3 (T, X, Y) "
        "or 5 (out, in, T, X, Y)"
    )
