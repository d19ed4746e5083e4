"""What training minimises. Each loss maps (output, target, mask) to one number.

Every loss is made of sums over the pixels of the batch. Processes that share a batch add these up,
by the function ``total`` that they give to the loss, and so come to the loss of the whole batch.

Shapes: B batch, C channels, K labels, *space two or three spatial axes.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from msdtool.data import IGNORED
from msdtool.nn.encoding import GramMatrix
from msdtool.nn.msd import MSDBlock2d, MSDBlock3d
from msdtool.train.similarity import ssim_image

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
Total = Callable[[Tensor], Tensor]
"""Sum over the processes that share a batch."""


def of_one(values: Tensor) -> Tensor:
    """The total of a process that has the batch to itself."""
    return values


class RegressionLoss:
    """Mean difference of output and target over the pixels that count.

    Args:
        name: L1, L2, Huber, or an SSIM mix, "L1+SSIM" or "L2+SSIM":
            (1 - ssim_weight) * L + ssim_weight * (1 - SSIM) (Zhao et al., IEEE TCI 2017, eq. 9,
            with a single scale).
        scale: the unit of the differences per channel, [C]; None: the data's own unit. The
            targets' standard deviation makes the loss, and with it Adam's epsilon and gradient
            clipping, independent of the data's unit.
        huber_delta: in that unit.
        ssim_weight: share of the SSIM term.
        data_range: value range that SSIM refers to, in the data's own unit.
        total: sum over the processes that share a batch.
    """

    def __init__(
        self,
        name: str,
        scale: Sequence[float] | None = None,
        *,
        huber_delta: float = 1.0,
        ssim_weight: float = 0.84,
        data_range: float | None = None,
        total: Total = of_one,
    ) -> None:
        pixelwise: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "L1": partial(F.l1_loss, reduction="none"),
            "L2": partial(F.mse_loss, reduction="none"),
            "Huber": partial(F.huber_loss, reduction="none", delta=huber_delta),
        }
        self.pixelwise = pixelwise[name.removesuffix("+SSIM")]
        self.scale = scale
        self.ssim_weight = ssim_weight if name.endswith("+SSIM") else 0.0
        self.data_range = data_range
        self.total = total

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the loss of ``output`` and ``target`` [B, C, *space], mask [B, 1, *space].

        Raises:
            ValueError: output and target differ in channels.
        """
        if output.shape[1] != target.shape[1]:
            raise ValueError(
                f"the target has {target.shape[1]} channels, the network gives {output.shape[1]}"
            )
        a, b = output, target
        if self.scale is not None:
            scale = torch.tensor(self.scale, dtype=output.dtype, device=output.device)
            scale = scale.reshape(-1, *(1,) * (output.dim() - 2))
            a, b = output / scale, target / scale
        loss = masked_mean(self.pixelwise(a, b), mask, self.total)
        if self.ssim_weight:
            image = ssim_image(output, target, self.data_range)
            similarity = masked_mean(image, mask, self.total)
            loss = (1 - self.ssim_weight) * loss + self.ssim_weight * (1 - similarity)
        return loss


class SSIMLoss:
    """1 - SSIM over the pixels that count (Wang et al., IEEE TIP 2004).

    Args:
        data_range: value range that SSIM refers to.
        total: sum over the processes that share a batch.
    """

    def __init__(self, data_range: float | None = None, *, total: Total = of_one) -> None:
        self.data_range = data_range
        self.total = total

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the loss of ``output`` and ``target`` [B, C, *space], mask [B, 1, *space]."""
        return 1 - masked_mean(ssim_image(output, target, self.data_range), mask, self.total)


class GramLoss:
    """Difference of textures: mean squared difference of mean products of features.

    The products of all pairs of features, averaged over the image, are its Gram matrix (Gatys et
    al., CVPR 2016, eq. 3-4). Features are those of fixed random filters of several scales, which
    tell textures apart as well as trained ones do (Ustyuzhaninov et al., ICLR 2017): an MSD block
    of 4 layers, 8 channels wide.

    Args:
        mean: of the targets, per channel, [C].
        std: of the targets, per channel, [C].
        ndim: number of spatial axes.
        total: sum over the processes that share a batch.
    """

    DILATIONS = (1, 2, 4, 8)
    WIDTH = 8

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], ndim: int, *, total: Total = of_one
    ) -> None:
        shape = (-1, *(1,) * ndim)
        self.mean, self.std = torch.tensor(mean).reshape(shape), torch.tensor(std).reshape(shape)
        block = {2: MSDBlock2d, 3: MSDBlock3d}[ndim]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same filters in every run
            self.features = block(len(mean), self.DILATIONS, self.WIDTH, "zeros")
        self.features.requires_grad_(False)
        self.gram = GramMatrix()
        self.total = total

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the mean over the images of which a pixel counts.

        ``output`` and ``target`` are [B, C, *space], mask [B, 1, *space].
        """
        counted = output.new_tensor(len(output))
        if mask is not None:
            output = torch.where(mask, output, target)
            counted = mask.flatten(1).any(1).sum().to(output)
        self.features.to(output)
        # The matrix is divided by the number of features: its sum of squares is a mean over pairs.
        difference = self._gram(output) - self._gram(target)
        return _ratio(difference.square().sum(), counted, self.total)

    def _gram(self, image: Tensor) -> Tensor:
        normalised = (image - self.mean.to(image)) / self.std.to(image)
        gram: Tensor = self.gram(self.features(normalised))
        return gram


class WeightedSum:
    """A sum of losses.

    Args:
        terms: pairs of weight and loss.
    """

    def __init__(self, terms: Sequence[tuple[float, Loss]]) -> None:
        self.terms = list(terms)

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the sum of the weighted losses; arguments as for each of them."""
        losses = [weight * loss(output, target, mask) for weight, loss in self.terms]
        return torch.stack(losses).sum()


class SegmentationLoss:
    """Cross entropy, Dice, or their sum, over the pixels that count.

    Args:
        name: cross_entropy, dice, or cross_entropy+dice.
        class_weights: for cross entropy, one per label.
        total: sum over the processes that share a batch.
    """

    def __init__(
        self,
        name: str,
        class_weights: Sequence[float] | None = None,
        *,
        total: Total = of_one,
    ) -> None:
        self.terms = name.split("+")
        self.class_weights = class_weights
        self.total = total

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the loss of scores [B, K, *space] and class indices [B, 1, *space]."""
        indices = target[:, 0]
        if mask is not None:
            indices = torch.where(mask[:, 0], indices, IGNORED)
        losses = {"cross_entropy": self._cross_entropy, "dice": self._dice}
        return torch.stack([losses[term](output, indices) for term in self.terms]).sum()

    def _cross_entropy(self, output: Tensor, indices: Tensor) -> Tensor:
        """Mean over the pixels that count, weighted; 0 for a batch without any."""
        counts = indices != IGNORED
        weights, count = None, counts.sum().to(output.dtype)
        if self.class_weights is not None:
            weights = torch.tensor(self.class_weights, dtype=output.dtype, device=output.device)
            count = (weights[indices.clamp(min=0)] * counts).sum()
        loss = F.cross_entropy(output, indices, weights, ignore_index=IGNORED, reduction="sum")
        return _ratio(loss, count, self.total)

    def _dice(self, output: Tensor, indices: Tensor) -> Tensor:
        return dice_loss(output, indices, self.total)


def dice_loss(output: Tensor, indices: Tensor, total: Total = of_one) -> Tensor:
    """1 - mean Dice coefficient over the labels (Milletari et al., 3DV 2016, per label).

    Sums run over the whole batch; one pixel added above and below keeps absent labels harmless.

    Args:
        output: scores [B, K, *space].
        indices: class indices [B, *space]; -100 does not count.
        total: sum over the processes that share the batch.
    """
    counts = (indices != IGNORED).unsqueeze(1)
    probabilities = output.softmax(dim=1) * counts
    one_hot = F.one_hot(indices.clamp(min=0), output.shape[1]).movedim(-1, 1) * counts
    axes = (0, *range(2, output.dim()))
    overlap = (probabilities * one_hot).sum(axes)
    size = probabilities.sum(axes) + one_hot.sum(axes)
    overlap, size = total(torch.stack([overlap, size]))
    return 1 - ((2 * overlap + 1) / (size + 1)).mean()


def masked_mean(values: Tensor, mask: Tensor | None, total: Total = of_one) -> Tensor:
    """Mean of ``values`` [B, C, *space] where ``mask`` [B, 1, *space] holds; 0 if nowhere."""
    if mask is None:
        return _ratio(values.sum(), values.new_tensor(values.numel()), total)
    weights = mask.expand_as(values).to(values.dtype)
    return _ratio((values * weights).sum(), weights.sum(), total)


def _ratio(above: Tensor, below: Tensor, total: Total) -> Tensor:
    """Quotient of two sums over the whole batch; 0 if the second is."""
    above, below = total(torch.stack([above, below.detach()]))
    return above / torch.where(below > 0, below, 1.0)


def balanced_weights(label_counts: Sequence[int]) -> list[float]:
    """Inverse frequency of each label, 1 if all are equally frequent; 1 for one that is absent."""
    total = sum(label_counts)
    return [total / (len(label_counts) * count) if count else 1.0 for count in label_counts]
