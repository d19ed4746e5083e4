"""Parameters of quadratic kernels: standard deviations, and rotation or correlation."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

Init = Mapping[str, str | float]


class SpectralCovariances(nn.Module):
    """Covariances R diag(e^(2 log_std)) R^T with R the rotation by theta.

    Args:
        shape: (O, I).
        kernel_size: k.
        init: "var" and "theta", see `msdtool.nn.semifield.QuadraticKernelSpectral2D`.

    Attributes:
        log_std: [O, I, 2], along the row and column axes rotated by R.
        theta: [O, I], in radians, from the row axis to the column axis.
    """

    def __init__(self, shape: tuple[int, int], kernel_size: int, init: Init) -> None:
        super().__init__()
        _check_keys(init, "var", "theta")
        number = math.prod(shape)
        spin = torch.arange(number) * (math.pi / number)
        draws: dict[str, Callable[[], Tensor]] = {
            "uniform": lambda: torch.empty(shape).uniform_(0, math.pi),
            "spin": lambda: shuffled(spin, shape),
        }
        self.theta = nn.Parameter(draws[_choice(init, "theta", draws)]())
        self.log_std = nn.Parameter(_draw_pairs(init, shape, kernel_size).log() / 2)

    def squared_distances(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return x^T S^-1 x for positions [k*k], as [O, I, k*k]."""
        cosine, sine = self.theta.cos().unsqueeze(-1), self.theta.sin().unsqueeze(-1)
        scales = self.log_std.mul(-2).exp().unsqueeze(-1)
        along = (rows * cosine + columns * sine).pow(2) * scales[:, :, 0]
        across = (columns * cosine - rows * sine).pow(2) * scales[:, :, 1]
        return along + across


class CholeskyCovariances(nn.Module):
    """Covariances L L^T, L = [[s0, 0], [r s1, s1 sqrt(1 - r^2)]], s = e^log_std, r = tanh(corr).

    Args:
        shape: (O, I).
        kernel_size: k.
        init: "var", see `msdtool.nn.semifield.QuadraticKernelCholesky2D`.

    Attributes:
        log_std: [2, O, I], along the rows and along the columns.
        corr: [O, I]; its tanh is Pearson's correlation of rows and columns.
    """

    def __init__(self, shape: tuple[int, int], kernel_size: int, init: Init) -> None:
        super().__init__()
        _check_keys(init, "var")
        self.corr = nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), 0.0, 0.5, -1.0, 1.0))
        pairs = _draw_pairs(init, shape, kernel_size).movedim(-1, 0).contiguous()
        self.log_std = nn.Parameter(pairs.log() / 2)

    def squared_distances(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return x^T S^-1 x = |L^-1 x|^2 for positions [k*k], as [O, I, k*k]."""
        scales = self.log_std.neg().exp().unsqueeze(-1)
        corr = self.corr.unsqueeze(-1)
        first = rows * scales[0]
        # 1 / sqrt(1 - tanh^2) = cosh, which avoids a division by zero.
        second = (columns * scales[1] - corr.tanh() * first) * corr.cosh()
        return first.pow(2) + second.pow(2)


def draw_variances(init: Init, shape: tuple[int, int], kernel_size: int, ndim: int) -> Tensor:
    """Draw the variances [O, I] of isotropic kernels.

    Raises:
        ValueError: ``init`` has an unknown "var", or other keys.
    """
    _check_keys(init, "var")
    draws: dict[str, Callable[[], Tensor]] = {
        "uniform": lambda: torch.empty(shape).uniform_(1, 16),
        "normal": lambda: nn.init.trunc_normal_(torch.empty(shape), 8.0, 1.0, 1.0, 16.0),
        "ss": lambda: _scale_space(shape, kernel_size, ndim),
        "log-ss": lambda: _scale_space(shape, kernel_size, ndim, logarithmic=True),
    }
    return _draw(init, "var", shape, draws)


def _draw_pairs(init: Init, shape: tuple[int, int], kernel_size: int) -> Tensor:
    """Draw the variances [O, I, 2] along both axes."""
    pairs = (*shape, 2)

    def same(variances: Tensor) -> Tensor:
        return variances.unsqueeze(-1).repeat(1, 1, 2)

    def skewed() -> Tensor:
        low, high = torch.empty(shape).uniform_(1, 8), torch.empty(shape).uniform_(20, 24)
        return torch.stack([low, high], dim=-1)

    draws: dict[str, Callable[[], Tensor]] = {
        "skewed": skewed,
        "uniform": lambda: torch.empty(pairs).uniform_(1, 16),
        "normal": lambda: nn.init.trunc_normal_(torch.empty(pairs), 8.0, 4.0, 1.0, 16.0),
        "uniform-iso": lambda: same(torch.empty(shape).uniform_(1, 16)),
        "ss-iso": lambda: same(_scale_space(shape, kernel_size)),
        "log-ss-iso": lambda: same(_scale_space(shape, kernel_size, logarithmic=True)),
    }
    return _draw(init, "var", pairs, draws)


def shuffled(values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return the values in random order."""
    return values[torch.randperm(len(values))].view(shape)


def _scale_space(
    shape: tuple[int, int], kernel_size: int, ndim: int = 2, logarithmic: bool = False
) -> Tensor:
    """Return variances from 1 to that whose standard deviation reaches the kernel's corner."""
    last = max(1.0, float(ndim) * (kernel_size // 2) ** 2)  # a kernel of one pixel reaches nowhere
    number = math.prod(shape)
    if logarithmic:
        return shuffled(torch.logspace(0, math.log10(last), number), shape)
    return shuffled(torch.linspace(1, last, number), shape)


def _draw(
    init: Init, key: str, shape: tuple[int, ...], draws: Mapping[str, Callable[[], Tensor]]
) -> Tensor:
    """Draw from the distribution that ``init`` names, or fill with the number it contains."""
    value = init.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
        return torch.full(shape, float(value))
    return draws[_choice(init, key, draws, "a positive number, ")]()


def _check_keys(init: Init, *allowed: str) -> None:
    for key in init:
        if key not in allowed:
            raise ValueError(f"init has the key {key!r}; allowed: {', '.join(allowed)}")


def _choice(init: Init, key: str, draws: Mapping[str, object], others: str = "") -> str:
    value = init.get(key)
    if isinstance(value, str) and value in draws:
        return value
    names = ", ".join(f'"{name}"' for name in draws)
    found = f"init[{key!r}] is {value!r}" if key in init else f"init {dict(init)!r} lacks {key!r}"
    raise ValueError(f"{found}; expected {others}{names}")
