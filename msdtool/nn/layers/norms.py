"""Normalisation layers, and linear layers that include one."""

from enum import Enum
from typing import Any

from torch import Tensor, nn
from torch.nn import init

from msdtool.nn.layers.basic import by_ndim


class NormType(Enum):
    """What a normalisation acts on: the outputs per batch or per image, or the weight.

    The Zero types have an initial weight of 0, so that a residual block starts as its shortcut.
    """

    Batch = 1
    BatchZero = 2
    Weight = 3
    Spectral = 4
    Instance = 5
    InstanceZero = 6


BATCH_TYPES = (NormType.Batch, NormType.BatchZero)
INSTANCE_TYPES = (NormType.Instance, NormType.InstanceZero)
INITIAL_BIAS = 1e-3
"""Just above 0, where a following ReLU is not flat."""


def BatchNorm(
    nf: int, ndim: int = 2, norm_type: NormType = NormType.Batch, **kwargs: Any
) -> nn.Module:
    """Return torch's batch normalisation for ``ndim`` spatial axes.

    Args:
        nf: channels.
        ndim: 1, 2 or 3.
        norm_type: Batch, initial weight 1, or BatchZero, initial weight 0. The initial bias is
            0.001.
        **kwargs: of `torch.nn.BatchNorm2d`.

    Raises:
        ValueError: another ``ndim`` or ``norm_type``.
    """
    _check_type(norm_type, BATCH_TYPES)
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return _start(by_ndim(kinds, ndim)(nf, **kwargs), norm_type)


def InstanceNorm(
    nf: int,
    ndim: int = 2,
    norm_type: NormType = NormType.Instance,
    affine: bool = True,
    **kwargs: Any,
) -> nn.Module:
    """Return torch's instance normalisation for ``ndim`` spatial axes.

    Args:
        nf: channels.
        ndim: 1, 2 or 3.
        norm_type: Instance, initial weight 1, or InstanceZero, initial weight 0. The initial bias
            is 0.001.
        affine: use a weight and a bias.
        **kwargs: of `torch.nn.InstanceNorm2d`.

    Raises:
        ValueError: another ``ndim`` or ``norm_type``.
    """
    _check_type(norm_type, INSTANCE_TYPES)
    kinds = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
    return _start(by_ndim(kinds, ndim)(nf, affine=affine, **kwargs), norm_type)


def _check_type(found: NormType | None, allowed: tuple[NormType, ...]) -> None:
    if found not in allowed:
        text = "null" if found is None else found.name
        names = ", ".join(kind.name for kind in allowed)
        raise ValueError(f"norm_type is {text}; allowed: {names}")


def _start(norm: nn.Module, norm_type: NormType) -> nn.Module:
    if isinstance(norm.weight, nn.Parameter) and isinstance(norm.bias, nn.Parameter):
        zero = norm_type in (NormType.BatchZero, NormType.InstanceZero)
        init.constant_(norm.weight, 0.0 if zero else 1.0)
        init.constant_(norm.bias, INITIAL_BIAS)
    return norm


class BatchNorm1dFlat(nn.BatchNorm1d):
    """Batch normalisation of features on the last axis, over all other axes.

    Arguments as for `torch.nn.BatchNorm1d`.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map [..., num_features] to the same shape."""
        return super().forward(input.flatten(0, -2)).reshape(input.shape)


class LinBnDrop(nn.Sequential):
    """Batch normalisation, dropout and a linear layer: [B, n_in] to [B, n_out].

    Args:
        n_in: input features.
        n_out: output features.
        bn: normalise; the linear layer then has no bias.
        p: fraction of the features that dropout sets to zero; 0 for no dropout.
        act: activation after the linear layer.
        lin_first: apply the linear layer and the activation first.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        bn: bool = True,
        p: float = 0.0,
        act: nn.Module | None = None,
        lin_first: bool = False,
    ) -> None:
        before: list[nn.Module] = []
        if bn:
            before.append(BatchNorm(n_out if lin_first else n_in, ndim=1))
        if p:
            before.append(nn.Dropout(p))
        linear: list[nn.Module] = [nn.Linear(n_in, n_out, bias=not bn)]
        if act is not None:
            linear.append(act)
        super().__init__(*(linear + before if lin_first else before + linear))
