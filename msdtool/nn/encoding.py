"""Layers that encode textures and styles, and batch normalisation over several processes.

Names and numbers are those of PyTorch-Encoding's ``encoding.nn`` (Hang Zhang), in plain torch. Its
documentation and its code differ in places; trained weights follow the code, and so do these:
`Encoding` multiplies distances by ``+scale``, which starts negative, and takes [B, D, N], not
[B, N, D]; `GramMatrix` divides by the number of values; `UpsampleConv2d` has no
``output_padding``.

Shapes: B batch, C and D channels, K codewords, N pixels, *space any number of spatial axes.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from msdtool.nn.batch_norm import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    DistSyncBatchNorm,
    EncodingDeprecationWarning,
    SyncBatchNorm,
)

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "ContextEncoding",
    "DistSyncBatchNorm",
    "Encoding",
    "EncodingDeprecationWarning",
    "GramMatrix",
    "Inspiration",
    "SyncBatchNorm",
    "UpsampleConv2d",
    "aggregate",
    "scaled_l2",
]


def scaled_l2(X: Tensor, C: Tensor, S: Tensor) -> Tensor:
    """Scaled squared distances ``S_k * |X_i - C_k|^2`` (Zhang et al., CVPR 2018).

    The square is expanded, so that no [B, N, K, D] tensor is needed; the codewords' mean is first
    subtracted from both, so that a common offset costs no precision.

    Args:
        X: features [B, N, D].
        C: codewords [K, D].
        S: scale per codeword [K].

    Returns:
        [B, N, K].
    """
    return _scaled_l2(*_moved(X, C), S)


def aggregate(A: Tensor, X: Tensor, C: Tensor) -> Tensor:
    """Weighted sums of residuals ``sum_i A_ik * (X_i - C_k)`` (Zhang et al., CVPR 2018).

    Args:
        A: weights [B, N, K].
        X: features [B, N, D].
        C: codewords [K, D].

    Returns:
        [B, K, D].
    """
    return _aggregate(A, *_moved(X, C))


def _moved(X: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    # Residuals do not depend on the offset, which therefore needs no gradient.
    offset = C.detach().mean(0)
    return X - offset, C - offset


def _scaled_l2(X: Tensor, C: Tensor, S: Tensor) -> Tensor:
    squares = X.square().sum(-1, keepdim=True) + C.square().sum(-1)
    return S * (squares - 2 * (X @ C.mT))


def _aggregate(A: Tensor, X: Tensor, C: Tensor) -> Tensor:
    return A.mT @ X - A.sum(1).unsqueeze(-1) * C


class Encoding(nn.Module):
    """Residuals of the pixels from learned codewords, summed with soft assignments.

    With r_ik = x_i - codewords_k and a_ik the softmax over k of scale_k * |r_ik|^2, the result is
    e_k = sum_i a_ik r_ik (Zhang et al., "Deep TEN", CVPR 2017, eq. 2 and 4, where s_k = -scale_k;
    "Context Encoding", CVPR 2018).

    Args:
        D: channels.
        K: codewords.

    State-dict names: ``codewords`` [K, D], ``scale`` [K].
    """

    def __init__(self, D: int, K: int) -> None:
        super().__init__()
        self.D, self.K = D, K
        bound = 1 / math.sqrt(K * D)
        self.codewords = nn.Parameter(torch.empty(K, D).uniform_(-bound, bound))
        self.scale = nn.Parameter(torch.empty(K).uniform_(-1, 0))

    def forward(self, X: Tensor) -> Tensor:
        """Map [B, D, *space] or [B, D, N] to [B, K, D].

        Raises:
            ValueError: the input has fewer axes or other channels.
        """
        if X.dim() < 3 or X.shape[1] != self.D:
            raise ValueError(f"input has shape {tuple(X.shape)}; expected [B, {self.D}, *space]")
        features, codewords = _moved(X.flatten(2).mT, self.codewords)
        assignments = _scaled_l2(features, codewords, self.scale).softmax(dim=2)
        return _aggregate(assignments, features, codewords)

    def __repr__(self) -> str:
        return f"Encoding(N x {self.D}=>{self.K}x{self.D})"


class ContextEncoding(nn.Module):
    """Gates that weight each channel by the content of the whole image (CVPR 2018, section 3.1).

    A 1x1 convolution, an `Encoding`, the mean of its normalised residuals over the codewords and a
    linear layer yield a factor between 0 and 1 per channel. The output is ``input * (1 + factor)``
    where the paper has ``input * factor``, so that no channel can vanish.

    Args:
        in_channels: channels of the input and the output.
        codes: codewords.
    """

    def __init__(self, in_channels: int, codes: int = 32) -> None:
        super().__init__()
        self.project = nn.Sequential(
            nn.Conv1d(in_channels, in_channels, 1, bias=False),
            SyncBatchNorm(in_channels),
            nn.ReLU(inplace=True),
        )
        self.encoding = Encoding(in_channels, codes)
        self.norm = SyncBatchNorm(codes)
        self.gate = nn.Linear(in_channels, in_channels)

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, in_channels, *space] to the same shape."""
        codes = F.relu(self.norm(self.encoding(self.project(input.flatten(2)))))
        factor = 1 + self.gate(codes.mean(1)).sigmoid()
        return input * factor.reshape(*factor.shape, *(1,) * (input.dim() - 2))


class Inspiration(nn.Module):
    """Match the statistics of features to a target Gram matrix (the CoMatch layer).

    Y = (W G)^T X with the pixels of X as columns (Zhang & Dana, "Multi-style Generative Network
    for Real-time Transfer", 2017, section 3.1).

    Args:
        C: channels.
        B: number of targets: 1 if all images share one, otherwise the batch size.

    State-dict names: ``weight`` [1, C, C]. The target is not part of it.
    """

    def __init__(self, C: int, B: int = 1) -> None:
        super().__init__()
        self.C, self.B = C, B
        self.weight = nn.Parameter(torch.empty(1, C, C).uniform_(0.0, 0.02))
        self.G: Tensor | None
        self.register_buffer("G", None, persistent=False)

    def setTarget(self, target: Tensor) -> None:  # noqa: N802 - the original's name
        """Set the Gram matrix to match, [B, C, C], as `GramMatrix` returns; it receives gradients.

        Raises:
            ValueError: the target has another shape.
        """
        if tuple(target.shape) != (self.B, self.C, self.C):
            raise ValueError(
                f"target has shape {tuple(target.shape)}; expected {(self.B, self.C, self.C)}"
            )
        self.G = target

    def forward(self, X: Tensor) -> Tensor:
        """Map [batch, C, *space] to the same shape.

        Raises:
            RuntimeError: no target is set.
            ValueError: the input has other channels, or the number of targets does not match.
        """
        if self.G is None:
            raise RuntimeError("Inspiration has no target; call setTarget with a Gram matrix first")
        if X.dim() < 3 or X.shape[1] != self.C:
            raise ValueError(f"input has shape {tuple(X.shape)}; expected [B, {self.C}, *space]")
        if self.B not in (1, len(X)):
            raise ValueError(f"got {len(X)} images for {self.B} targets; expected {self.B} images")
        product = (self.weight @ self.G).mT
        return (product @ X.flatten(2)).view_as(X)

    def __repr__(self) -> str:
        return f"Inspiration(N x {self.C})"


class GramMatrix(nn.Module):
    """Inner products of the channels, divided by the number of values C * prod(space)."""

    def forward(self, y: Tensor) -> Tensor:
        """Map images [B, C, H, W] or volumes [B, C, D, H, W] to [B, C, C].

        Raises:
            ValueError: the input has another number of axes.
        """
        if y.dim() not in (4, 5):
            raise ValueError(f"input has shape {tuple(y.shape)}; expected [B, C, (D,) H, W]")
        features = y.flatten(2)
        # Divided inside the product: in float16 its undivided sums would overflow.
        share = 1 / (features.shape[1] * features.shape[2])
        return torch.baddbmm(y.new_zeros(1), features, features.mT, beta=0, alpha=share)


class UpsampleConv2d(nn.Conv2d):
    """A convolution that outputs a ``scale_factor`` x ``scale_factor`` patch per window.

    A `torch.nn.Conv2d` with scale_factor^2 times the output channels, arranged by
    `torch.nn.functional.pixel_shuffle`: upsampling without the checkerboard of a transposed
    convolution (Zhang & Dana, 2017, section 3.2). The output's sides are scale_factor *
    floor((H + 2 * padding - dilation * (kernel_size - 1) - 1) / stride + 1).

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: as for
            `torch.nn.Conv2d`.
        scale_factor: pixels per window and axis.

    State-dict names: ``weight`` [out_channels * scale_factor^2, in_channels / groups, *kernel],
    ``bias`` [out_channels * scale_factor^2].

    Raises:
        ValueError: in_channels or out_channels is not divisible by groups.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        scale_factor: int = 1,
        bias: bool = True,
    ) -> None:
        if out_channels % groups:
            raise ValueError(f"out_channels {out_channels} is not divisible by groups {groups}")
        channels = out_channels * scale_factor**2
        super().__init__(
            in_channels, channels, kernel_size, stride, padding, dilation, groups, bias
        )
        self.scale_factor = scale_factor

    def reset_parameters(self) -> None:
        """Draw weight and bias from +-1 / sqrt(in_channels * kernel pixels), for any groups."""
        bound = 1 / math.sqrt(self.in_channels * math.prod(self.kernel_size))
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] to [B, out_channels, H', W']."""
        return F.pixel_shuffle(super().forward(input), self.scale_factor)

    def extra_repr(self) -> str:
        """Describe it as `torch.nn.Conv2d` does, with the scale factor."""
        return f"{super().extra_repr()}, scale_factor={self.scale_factor}"
