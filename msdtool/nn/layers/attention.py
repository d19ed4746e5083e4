"""Layers in which each pixel attends to all others.

Shapes: B batch, C channels, N pixels, *space the spatial axes.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from msdtool.nn.layers.convolution import ConvLayer
from msdtool.nn.layers.norms import NormType
from msdtool.wording import size_text

MAX_SCORE_BYTES = 4 * 2**30
"""Largest allowed attention scores: those of one image of 181 x 181 pixels in float32."""


def _projection(c_in: int, c_out: int, ndim: int = 1) -> ConvLayer:
    """A spectral-normalised 1x1 convolution."""
    return ConvLayer(
        c_in, c_out, ks=1, ndim=ndim, norm_type=NormType.Spectral, act_cls=None, bias=False
    )


def _check_scores(input: Tensor, num_keys: int) -> None:
    """Raise ValueError if the scores of all pixels with all keys exceed ``MAX_SCORE_BYTES``."""
    space = tuple(input.shape[2:])
    num_queries = math.prod(space)
    num_bytes = len(input) * num_queries * num_keys * input.element_size()
    if num_bytes > MAX_SCORE_BYTES:
        raise ValueError(
            f"attention over images of {size_text(space)} pixels, {len(input)} at a time, compares "
            f"{num_queries:,} pixels with {num_keys:,}, which takes {num_bytes / 2**30:,.1f} GiB; "
            f"allowed: {MAX_SCORE_BYTES / 2**30:g} GiB. Use smaller images or crops, or "
            "SimpleSelfAttention, whose memory does not grow with the square of the pixels"
        )


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Mean of the values [B, C, M], weighted by softmax(query . key) over M: [B, C, N].

    Torch chooses an algorithm that suits the device; some need no [N, M] scores in memory.
    """
    q, k, v = (tensor.transpose(1, 2) for tensor in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v, scale=1.0).transpose(1, 2)


class SelfAttention(nn.Module):
    """Self-attention of images, volumes or sequences (Zhang et al., SAGAN, ICML 2019, eq. 1-3).

    out_j = x_j + gamma * sum_i softmax_i(f_i . g_j) h_i with f, g, h the query, key and value of
    each pixel. It is initially the identity: gamma is 0.

    Args:
        n_channels: C. Queries and keys have C//8 channels, at least one.

    State-dict names: ``query.0.*``, ``key.0.*``, ``value.0.*``, ``gamma`` [1].
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        reduced = max(1, n_channels // 8)
        self.query = _projection(n_channels, reduced)
        self.key = _projection(n_channels, reduced)
        self.value = _projection(n_channels, n_channels)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, C, *space] to the same shape.

        Raises:
            ValueError: the scores would take more than 4 GiB.
        """
        _check_scores(input, math.prod(input.shape[2:]))
        pixels = input.flatten(2)
        # The softmax runs over the pixels of the "query", as in the published weights.
        mean = _attend(self.key(pixels), self.query(pixels), self.value(pixels))
        return (self.gamma * mean + pixels).reshape(input.shape)


class PooledSelfAttention2d(nn.Module):
    """Self-attention of images in which keys and values are pooled 2x2 (BigGAN, ICLR 2019).

    It is initially the identity: gamma is 0. The last row or column of an odd size is pooled alone.

    Args:
        n_channels: C. Queries and keys have C//8 channels, values C//2, at least one.

    State-dict names: ``query.0.*``, ``key.0.*``, ``value.0.*``, ``out.0.*``, ``gamma`` [1].
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        reduced, halved = max(1, n_channels // 8), max(1, n_channels // 2)
        self.query = _projection(n_channels, reduced, ndim=2)
        self.key = _projection(n_channels, reduced, ndim=2)
        self.value = _projection(n_channels, halved, ndim=2)
        self.out = _projection(halved, n_channels, ndim=2)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape.

        Raises:
            ValueError: the scores would take more than 4 GiB.
        """
        height, width = input.shape[2:]
        _check_scores(input, math.ceil(height / 2) * math.ceil(width / 2))
        key, value = (
            F.max_pool2d(layer(input), 2, ceil_mode=True) for layer in (self.key, self.value)
        )
        query = self.query(input)
        mean = _attend(query.flatten(2), key.flatten(2), value.flatten(2))
        output: Tensor = self.gamma * self.out(mean.reshape(len(input), -1, height, width)) + input
        return output


class _Symmetric(nn.Module):
    """Parametrization: a kernel [C, C, ks] that is symmetric in its two channel axes."""

    def forward(self, weight: Tensor) -> Tensor:
        return (weight + weight.transpose(0, 1)) / 2


class SimpleSelfAttention(nn.Module):
    """Attention of channels to channels: x + gamma * (x x^T) conv(x), x [C, N].

    Time and memory grow linearly with N. It is initially the identity: gamma is 0.

    Args:
        n_in: C.
        ks: size of the kernel along the flattened pixels; odd.
        sym: keep the kernel symmetric in its two channel axes.

    Raises:
        ValueError: ``ks`` is even.

    State-dict names: ``conv.*``, ``gamma`` [1].
    """

    def __init__(self, n_in: int, ks: int = 1, sym: bool = False) -> None:
        super().__init__()
        if ks % 2 == 0:
            raise ValueError(f"ks is {ks}; an even kernel would change the number of pixels")
        self.conv = nn.Conv1d(n_in, n_in, ks, padding=ks // 2, bias=False)
        nn.init.kaiming_normal_(self.conv.weight)
        if sym:
            parametrize.register_parametrization(self.conv, "weight", _Symmetric())
        parametrizations.spectral_norm(self.conv)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, C, *space] to the same shape."""
        pixels = input.flatten(2)
        attention = (pixels @ pixels.transpose(1, 2)) @ self.conv(pixels)
        return (self.gamma * attention + pixels).reshape(input.shape)
