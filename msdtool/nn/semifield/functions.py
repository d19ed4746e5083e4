"""The functions of the ready-made semifields, elementwise or as reductions."""

import math

import torch
from torch import Tensor

from msdtool.ops.semifield.linear import root_of_sum

# Instead of zero, whose power is infinite for negative p.
ROOT_PADDING = float(torch.finfo(torch.float32).eps)


def one(_img: Tensor, _kernel: Tensor) -> float:
    """Derivative of a sum."""
    return 1.0


def minus_one(_img: Tensor, _kernel: Tensor) -> float:
    """Derivative of a difference by the subtrahend."""
    return -1.0


def first(left: Tensor, _right: Tensor) -> Tensor:
    """Derivative of a product by its second factor."""
    return left


def second(_left: Tensor, right: Tensor) -> Tensor:
    """Derivative of a product by its first factor."""
    return right


def log_zero(mu: float) -> float:
    """Zero of the log semifield."""
    return -math.inf if mu > 0 else math.inf


def reduce_sum(terms: Tensor, dims: int | tuple[int, ...]) -> Tensor:
    """Ordinary sum."""
    return terms.sum(dims)


def spread_max(terms: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Maximum; the gradient is divided among equal ones."""
    return terms.amax(dims)


def spread_min(terms: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Minimum; the gradient is divided among equal ones."""
    return terms.amin(dims)


def reduce_max(terms: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Maximum over adjacent axes; the gradient goes to one of equal ones."""
    return terms.flatten(dims[0], dims[-1]).max(dims[0]).values


def reduce_min(terms: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Minimum over adjacent axes; the gradient goes to one of equal ones."""
    return terms.flatten(dims[0], dims[-1]).min(dims[0]).values


def reduce_root(terms: Tensor, dims: tuple[int, ...], p: float) -> Tensor:
    """(sum v^p)^(1/p)."""
    return root_of_sum(terms.pow(p).sum(dims), p)


def reduce_log(terms: Tensor, dims: tuple[int, ...], mu: float) -> Tensor:
    """ln(sum e^(mu v)) / mu."""
    return torch.logsumexp(terms * mu, dims) / mu


def power_of_product(img: Tensor, kernel: Tensor, p: float) -> Tensor:
    """(img * kernel)^p."""
    return (img * kernel) ** p


def d_power_d_img(img: Tensor, kernel: Tensor, p: float) -> Tensor:
    """Derivative of `power_of_product` by the image."""
    return p * (img * kernel) ** (p - 1) * kernel


def d_power_d_kernel(img: Tensor, kernel: Tensor, p: float) -> Tensor:
    """Derivative of `power_of_product` by the kernel."""
    return d_power_d_img(kernel, img, p)


def power(value: Tensor, p: float) -> Tensor:
    """Inverse of `root_of_sum`."""
    return value**p


def d_root(total: Tensor, p: float) -> Tensor:
    """Derivative of `root_of_sum`; 0 where it is undefined."""
    zero = total == 0
    slopes = total.masked_fill(zero, 1) ** (1 / p - 1) / p
    return slopes.masked_fill(zero, 0)


def log_add(acc: Tensor, value: Tensor, mu: float) -> Tensor:
    """ln(e^(mu acc) + e^(mu value)) / mu without overflow."""
    return torch.logaddexp(acc * mu, value * mu) / mu


def log_subtract(total: Tensor, value: Tensor, mu: float) -> Tensor:
    """Inverse of `log_add`. Rounding may have left a total below its only term."""
    share = ((value - total) * mu).clamp(max=0).exp()
    return total + torch.log1p(-share) / mu


def log_share(acc: Tensor, value: Tensor, mu: float) -> Tensor:
    """Derivative of `log_add` by the value: its share of the sum."""
    return torch.sigmoid((value - acc) * mu)


def check_parameter(name: str, value: float) -> None:
    """Raise ValueError for a parameter that is 0 or not a finite number."""
    if not isinstance(value, int | float) or value == 0 or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}; expected a number other than 0")
