"""Losses of a segmentation for rare labels, hard pixels, and boundaries in the right place.

They map (output, target, mask) to a scalar as those of `msdtool.train.losses` do: scores
[B, K, *space], class indices [B, 1, *space], and a mask [B, 1, *space] or None. Pixels that are
`IGNORED` or masked out do not count. Each raises ValueError if scores and indices differ in shape.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from msdtool.data import IGNORED
from msdtool.measure.distances import NOWHERE, squared_distances
from msdtool.measure.masking import Total, constants, of_one, ratio
from msdtool.train.losses import counted_indices


class FocalLoss:
    """Cross entropy, less of it for pixels that are nearly right: -(1 - p)^gamma log p.

    p is the probability of the pixel's label (Lin et al., ICCV 2017, eq. 5). The loss is the mean
    over the pixels that count, weighted by their labels as that of `CrossEntropyLoss`, which it is
    at gamma = 0.

    Args:
        gamma: not negative; the larger, the less pixels count that are nearly right.
        class_weights: one per label; None: all 1.
        total: sum over the processes that share a batch.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        class_weights: Sequence[float] | None = None,
        *,
        total: Total = of_one,
    ) -> None:
        self.gamma = gamma
        self.class_weights = class_weights
        self.total = total

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the loss; see the module."""
        indices = counted_indices(output, target, mask)
        counts = indices != IGNORED
        labels = indices.clamp(min=0)
        log_p = output.log_softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)
        # The slope of a power below 1 is infinite at 0.
        rest = (-torch.expm1(log_p)).clamp(min=torch.finfo(output.dtype).tiny)
        weights = counts.to(output.dtype)
        if self.class_weights is not None:
            by_label = constants(self.class_weights, output)
            weights = weights * by_label[labels]
        return ratio(-(weights * rest**self.gamma * log_p).sum(), weights.sum(), self.total)


class TverskyLoss:
    """1 - mean Tversky index over the labels (Salehi et al., MLMI 2017, eq. 4, per label).

    The index of a label is t / (t + alpha f + beta m): t is the probability that is rightly given
    to it, f that wrongly given to it, m that which its own pixels lack, each summed over the whole
    batch. Half a pixel added to numerator and denominator makes absent labels harmless;
    alpha = beta = 1/2 is `DiceLoss`.

    Args:
        alpha: weight of false positives.
        beta: weight of false negatives.
        total: sum over the processes that share a batch.
    """

    def __init__(self, alpha: float = 0.3, beta: float = 0.7, *, total: Total = of_one) -> None:
        self.alpha, self.beta = alpha, beta
        self.total = total

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the loss; see the module."""
        probabilities, one_hot, _ = _counted(output, counted_indices(output, target, mask))
        axes = (0, *range(2, output.dim()))
        hits = (probabilities * one_hot).sum(axes)
        false = (probabilities * (1 - one_hot)).sum(axes)
        missed = ((1 - probabilities) * one_hot).sum(axes)
        hits, false, missed = self.total(torch.stack([hits, false, missed]))
        index = (hits + 0.5) / (hits + self.alpha * false + self.beta * missed + 0.5)
        return 1 - index.mean()


class BoundaryLoss:
    """How far from the boundary of each label wrong probability lies, in pixels.

    The mean over labels and pixels that count of phi (s - g): s is the probability of a label, g
    is 1 at its pixels and 0 elsewhere, phi is the signed distance to the label's boundary, negative
    inside (Kervadec et al., MIDL 2019, eq. 4 and 5; the term in g does not depend on the network
    and makes the loss of a perfect answer 0). Half a pixel separates the centre of a pixel at the
    boundary from the boundary. In an image that lacks a label, or has no other, the label has no
    boundary and does not count, so this loss is for use beside another one.

    Args:
        total: sum over the processes that share a batch.
    """

    def __init__(self, *, total: Total = of_one) -> None:
        self.total = total

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the loss; see the module."""
        indices = counted_indices(output, target, mask)
        probabilities, one_hot, counts = _counted(output, indices)
        distance = signed_distances(indices, output.shape[1]).to(output.dtype)
        wrong = (distance * (probabilities - one_hot)).sum()
        return ratio(wrong, counts.sum().to(output.dtype) * output.shape[1], self.total)


class HardestEntropyLoss:
    """Cross entropy, mean over the hardest pixels of each image (Wu et al., arXiv 1605.06885).

    Args:
        fraction: of an image's pixels that count, rounded up; above 0, at most 1.
        total: sum over the processes that share a batch.
    """

    def __init__(self, fraction: float = 0.1, *, total: Total = of_one) -> None:
        self.fraction = fraction
        self.total = total

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the loss; see the module."""
        indices = counted_indices(output, target, mask)
        entropy = F.cross_entropy(output, indices, ignore_index=IGNORED, reduction="none")
        return hardest_mean(entropy, indices != IGNORED, self.fraction, self.total)


def hardest_mean(values: Tensor, counts: Tensor, fraction: float, total: Total) -> Tensor:
    """Mean of the largest values of each image, all images together.

    Per image rather than per batch, so that processes that share a batch need not compare values.

    Args:
        values: [B, ...].
        counts: bool, of the shape of ``values``: which of them may be chosen.
        fraction: of an image's values to choose, rounded up.
        total: sum over the processes that share a batch.
    """
    sums, chosen = [], 0
    for image, counted in zip(values, counts, strict=True):
        candidates = image[counted]
        number = math.ceil(fraction * candidates.numel())
        sums.append(candidates.topk(number, sorted=False).values.sum())
        chosen += number
    return ratio(torch.stack(sums).sum(), values.new_full((), chosen), total)


def signed_distances(indices: Tensor, num_labels: int) -> Tensor:
    """Distance in pixels from each pixel to the boundary of each label, negative inside.

    The boundary is half a pixel from the nearest pixel on its other side; pixels whose label is
    not known are on neither side. 0 for them, and for a label without a boundary.

    Args:
        indices: class indices [B, *space], `IGNORED` where the label is not known.
        num_labels: K.

    Returns:
        [B, K, *space], float32.
    """
    labels = torch.arange(num_labels, device=indices.device)
    sets = indices.unsqueeze(1) == labels.reshape(-1, *(1,) * (indices.dim() - 1))
    squared = squared_distances(sets.flatten(0, 1)).reshape(sets.shape)
    # Inside a label, the other side is the nearest of all other labels.
    nearest_other = torch.where(sets, NOWHERE, squared).amin(1, keepdim=True)
    squared = torch.where(sets, nearest_other, squared)
    known = (squared < NOWHERE) & (indices != IGNORED).unsqueeze(1)
    distance = squared.float().sqrt() - 0.5
    return torch.where(known, torch.where(sets, -distance, distance), 0.0)


def _counted(output: Tensor, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities and one-hot labels [B, K, *space], both 0 where a pixel does not count.

    Also returns which pixels count, [B, 1, *space].
    """
    counts = (indices != IGNORED).unsqueeze(1)
    one_hot = F.one_hot(indices.clamp(min=0), output.shape[1]).movedim(-1, 1) * counts
    return output.softmax(1) * counts, one_hot.to(output.dtype), counts
