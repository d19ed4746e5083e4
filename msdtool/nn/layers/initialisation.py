"""Initial values of weights."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn import init as torch_init

from msdtool.nn.layers import activations

Init = Callable[[Tensor], Any]

RECTIFIER_LIKE: tuple[Any, ...] = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.Mish),
    *(activations.SwishJit, activations.MishJit, activations.swish, activations.mish),
    *(F.relu, F.relu_, F.relu6, F.leaky_relu, F.leaky_relu_, F.silu, F.mish),
)
"""Activations that pass about half of the variance: kaiming_uniform_."""

SIGMOID_LIKE: tuple[Any, ...] = (
    *(nn.Sigmoid, nn.Tanh, torch.sigmoid, torch.tanh, F.sigmoid, F.tanh),
    *(activations.sigmoid, activations.sigmoid_),
)
"""Activations that are linear near 0: xavier_uniform_."""


def init_default(m: nn.Module, func: Init = torch_init.kaiming_normal_) -> nn.Module:
    """Initialise a layer's weight with ``func`` and its bias with 0, if any; return the layer."""
    weight, bias = getattr(m, "weight", None), getattr(m, "bias", None)
    if weight is not None:
        func(weight)
    if isinstance(bias, Tensor):
        torch_init.zeros_(bias)
    return m


def init_linear(
    m: nn.Module,
    act_func: Any = None,
    init: str | Init = "auto",
    bias_std: float | None = 0.01,
) -> None:
    """Initialise a linear layer or convolution to suit the activation after it.

    Args:
        m: the layer.
        act_func: the activation, a module or a function.
        init: "auto" is Kaiming's uniform initialisation for ReLU and its variants, Swish and Mish;
            Xavier's for sigmoid and tanh; torch's default otherwise. Or a function that fills the
            weight.
        bias_std: standard deviation of the biases; None leaves them unchanged.

    Raises:
        ValueError: ``init`` is another string.
    """
    bias = getattr(m, "bias", None)
    if bias is not None and bias_std is not None:
        torch_init.normal_(bias, 0, bias_std)
    fill = _chosen_init(act_func) if init == "auto" else init
    if isinstance(fill, str):
        raise ValueError(f"init is {init!r}; allowed: 'auto' or a function of the weight")
    if fill is not None:
        fill(m.get_parameter("weight"))


def _chosen_init(act_func: Any) -> Init | None:
    if act_func in RECTIFIER_LIKE or type(act_func) in RECTIFIER_LIKE:
        return torch_init.kaiming_uniform_
    if act_func in SIGMOID_LIKE or type(act_func) in SIGMOID_LIKE:
        return torch_init.xavier_uniform_
    return None


@torch.no_grad()
def trunc_normal_(x: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Fill with approximately normal samples within 2 ``std`` of ``mean``.

    Normal samples modulo 2, sign preserved, then scaled; their standard deviation is 0.87 ``std``.
    """
    return x.normal_().fmod_(2).mul_(std).add_(mean)


class Embedding(nn.Embedding):
    """`torch.nn.Embedding` initialised by `trunc_normal_`.

    Args:
        ni: number of entries.
        nf: features of each.
        std: of the initial values.
    """

    def __init__(self, ni: int, nf: int, std: float = 0.01) -> None:
        super().__init__(ni, nf)
        trunc_normal_(self.weight, std=std)


def icnr_init(x: Tensor, scale: int = 2, init: Init = torch_init.kaiming_normal_) -> Tensor:
    """Return initial weights for the convolution before a pixel shuffle.

    The scale^2 filters whose outputs form one block of pixels are equal, so that upsampling is
    initially nearest-neighbour, without checkerboard artefacts (Aitken et al., 2017,
    arXiv:1707.02937).

    Args:
        x: a weight [n*scale^2, c_in, *kernel]; only its shape, dtype and device are used.
        scale: of the pixel shuffle.
        init: fills the [n, c_in, *kernel] distinct filters.

    Raises:
        ValueError: the number of filters is not a multiple of scale^2.
    """
    copies = scale**2
    if x.shape[0] % copies:
        raise ValueError(
            f"x has {x.shape[0]} filters; expected a multiple of {copies}, the square of the "
            f"scale {scale}"
        )
    filters = x.new_zeros(x.shape[0] // copies, *x.shape[1:])
    init(filters)
    return filters.repeat_interleave(copies, dim=0)
