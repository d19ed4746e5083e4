"""Pooling layers for one, two or three spatial axes."""

from enum import Enum

import torch
from torch import Tensor, nn

from msdtool.nn.layers.basic import Flatten, by_ndim

Size = int | tuple[int, ...]


class PoolType(str, Enum):
    """How a pooling layer reduces each window: mean, maximum, or both."""

    Avg = "Avg"
    Max = "Max"
    Cat = "Cat"


class AdaptiveConcatPool1d(nn.Module):
    """The maximum and the mean of each window, concatenated as channels.

    Args:
        size: length of the output; None for 1.
    """

    def __init__(self, size: int | None = None) -> None:
        super().__init__()
        self.mp = nn.AdaptiveMaxPool1d(size or 1)
        self.ap = nn.AdaptiveAvgPool1d(size or 1)

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, C, L] to [B, 2*C, size]: maxima, then means."""
        return torch.cat([self.mp(input), self.ap(input)], 1)


class AdaptiveConcatPool2d(nn.Module):
    """The maximum and the mean of each window, concatenated as channels.

    Args:
        size: height and width of the output, or one number for both; None for 1.
    """

    def __init__(self, size: int | tuple[int, int] | None = None) -> None:
        super().__init__()
        self.mp = nn.AdaptiveMaxPool2d(size or 1)
        self.ap = nn.AdaptiveAvgPool2d(size or 1)

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, 2*C, size, size]: maxima, then means."""
        return torch.cat([self.mp(input), self.ap(input)], 1)


def adaptive_pool(pool_type: PoolType | str) -> type[nn.Module]:
    """Return the class that pools images to a fixed size by "Avg", "Max" or both ("Cat").

    Raises:
        ValueError: another ``pool_type``.
    """
    pools: dict[str, type[nn.Module]] = {
        PoolType.Avg: nn.AdaptiveAvgPool2d,
        PoolType.Max: nn.AdaptiveMaxPool2d,
        PoolType.Cat: AdaptiveConcatPool2d,
    }
    if pool_type not in pools:
        allowed = ", ".join(kind.value for kind in PoolType)
        raise ValueError(f"pool_type is {pool_type!r}; allowed: {allowed}")
    return pools[pool_type]


class PoolFlatten(nn.Sequential):
    """Pool each channel of an image to one number: [B, C, H, W] to [B, C] (2*C for "Cat").

    Args:
        pool_type: see `adaptive_pool`.
    """

    def __init__(self, pool_type: PoolType | str = PoolType.Avg) -> None:
        super().__init__(adaptive_pool(pool_type)(1), Flatten())


def AdaptiveAvgPool(sz: Size = 1, ndim: int = 2) -> nn.Module:
    """Return torch's adaptive average pooling to size ``sz``, for ``ndim`` spatial axes."""
    return by_ndim((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d), ndim)(sz)


def MaxPool(
    ks: Size = 2,
    stride: Size | None = None,
    padding: Size = 0,
    ndim: int = 2,
    ceil_mode: bool = False,
) -> nn.Module:
    """Return torch's maximum pooling for ``ndim`` spatial axes.

    Args:
        ks: size of the window.
        stride: distance between windows; None for ``ks``.
        padding: pixels added on each side; they are never the maximum.
        ndim: number of spatial axes.
        ceil_mode: include the partial window at the end.
    """
    pool = by_ndim((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), ndim)
    return pool(ks, stride, padding, ceil_mode=ceil_mode)


def AvgPool(
    ks: Size = 2,
    stride: Size | None = None,
    padding: Size = 0,
    ndim: int = 2,
    ceil_mode: bool = False,
) -> nn.Module:
    """Return torch's average pooling for ``ndim`` spatial axes; arguments as for `MaxPool`.

    Pixels added by ``padding`` count as zeros.
    """
    pool = by_ndim((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), ndim)
    return pool(ks, stride, padding, ceil_mode=ceil_mode)
