"""What training minimises. Each loss maps (output, target, mask) to a scalar.

Every loss is made of sums over the pixels of a batch. Processes that share a batch add up these
sums by the function ``total``, an argument of each loss, so that all compute the loss of the whole
batch.

Shapes: B batch, C channels, K labels, *space two or three spatial axes.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from msdtool.data import IGNORED
from msdtool.measure.masking import Total, constants, masked_mean, of_one, ratio
from msdtool.measure.ssim import mean_ssim
from msdtool.nn.encoding import GramMatrix
from msdtool.nn.msd import MSDBlock2d, MSDBlock3d

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class RegressionLoss:
    """Mean difference of output and target over the pixels that count.

    Args:
        name: L1, L2 or Huber.
        scale: the unit of the differences per channel, [C]; None: the data's own unit. The
            targets' standard deviation makes the loss, and with it Adam's epsilon and gradient
            clipping, independent of the data's unit.
        huber_delta: in that unit.
        total: sum over the processes that share a batch.
    """

    def __init__(
        self,
        name: str,
        scale: Sequence[float] | None = None,
        *,
        huber_delta: float = 1.0,
        total: Total = of_one,
    ) -> None:
        pixelwise: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "L1": partial(F.l1_loss, reduction="none"),
            "L2": partial(F.mse_loss, reduction="none"),
            "Huber": partial(F.huber_loss, reduction="none", delta=huber_delta),
        }
        self.pixelwise = pixelwise[name]
        self.scale = scale
        self.total = total

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the loss of ``output`` and ``target`` [B, C, *space], mask [B, 1, *space].

        Raises:
            ValueError: output and target differ in shape.
        """
        check_shapes(output, target)
        output, target = in_unit(output, self.scale), in_unit(target, self.scale)
        return masked_mean(self.pixelwise(output, target), mask, self.total)


class SSIMLoss:
    """1 - SSIM over the pixels that count, see `msdtool.measure.ssim.mean_ssim`.

    Pixels less than 5 from the border do not count, and images smaller than 11 are refused.

    Args:
        data_range: value range that SSIM refers to.
        total: sum over the processes that share a batch.
    """

    def __init__(self, data_range: float | None = None, *, total: Total = of_one) -> None:
        self.data_range = data_range
        self.total = total

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the loss of ``output`` and ``target`` [B, C, *space], mask [B, 1, *space].

        Raises:
            ValueError: output and target differ in shape, or an axis is shorter than the window.
        """
        check_shapes(output, target)
        similarity = mean_ssim(output, target, self.data_range, mask, self.total)
        return (1 - similarity).to(output.dtype)


class GramLoss:
    """Difference of textures: mean squared difference of mean products of features.

    The products of all pairs of features, averaged over the image, are its Gram matrix (Gatys et
    al., CVPR 2016, eq. 3-4). The features are the outputs of fixed random filters at several
    scales, which discriminate textures as well as trained ones (Ustyuzhaninov et al., ICLR 2017):
    an MSD block of 4 layers, 8 channels wide.

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
        self.mean, self.std = mean, std
        block = {2: MSDBlock2d, 3: MSDBlock3d}[ndim]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same filters in every run
            self.features = block(len(mean), self.DILATIONS, self.WIDTH, "zeros")
        self.features.requires_grad_(False)
        self.gram = GramMatrix()
        self.total = total

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the mean over the images that have a pixel that counts.

        ``output`` and ``target`` are [B, C, *space], mask [B, 1, *space].

        Raises:
            ValueError: output and target differ in shape.
        """
        check_shapes(output, target)
        counted = output.new_full((), len(output))
        if mask is not None:
            output = torch.where(mask, output, target)
            counted = mask.flatten(1).any(1).sum().to(output)
        self.features.to(output)
        # The matrix is divided by the number of features: its sum of squares is a mean over pairs.
        difference = self._gram(output) - self._gram(target)
        return ratio(difference.square().sum(), counted, self.total)

    def _gram(self, image: Tensor) -> Tensor:
        shape = (-1, *(1,) * (image.dim() - 2))
        mean, std = (constants(values, image).reshape(shape) for values in (self.mean, self.std))
        normalised = (image - mean) / std
        gram: Tensor = self.gram(self.features(normalised))
        return gram


class IntervalLoss:
    """A loss of the result, and the pinball losses of a lower and an upper bound of the target.

    For a quantile q, the pinball loss of a bound b is max(q (t - b), (q - 1) (t - b)), which is
    smallest in the mean where a fraction q of the targets t lies below b (Koenker & Bassett,
    Econometrica 46, 1978). The bounds are the quantiles (1 - p) / 2 and (1 + p) / 2.

    Args:
        loss: of the result.
        fraction: p, of the targets that the interval is to hold.
        scale: the unit of the differences per channel of a target, see `RegressionLoss`.
        total: sum over the processes that share a batch.
    """

    def __init__(
        self,
        loss: Loss,
        fraction: float,
        scale: Sequence[float] | None = None,
        *,
        total: Total = of_one,
    ) -> None:
        self.loss, self.scale, self.total = loss, scale, total
        self.quantiles = ((1 - fraction) / 2, (1 + fraction) / 2)

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the sum of the losses.

        Args:
            output: [B, 3 * C, *space]: results, lower bounds, upper bounds.
            target: [B, C, *space].
            mask: [B, 1, *space].

        Raises:
            ValueError: output and target differ in shape.
        """
        result, *bounds = output.chunk(3, 1)
        losses = [self.loss(result, target, mask)]
        for bound, quantile in zip(bounds, self.quantiles, strict=True):
            check_shapes(bound, target)
            above = in_unit(target, self.scale) - in_unit(bound, self.scale)
            pinball = torch.maximum(quantile * above, (quantile - 1) * above)
            losses.append(masked_mean(pinball, mask, self.total))
        return torch.stack(losses).sum()


class WeightedSum:
    """A weighted sum of losses, as ``training.loss`` describes it.

    Args:
        terms: pairs of weight and loss.
    """

    def __init__(self, terms: Sequence[tuple[float, Loss]]) -> None:
        self.terms = list(terms)

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the weighted sum; the arguments are those of each loss."""
        losses = [weight * loss(output, target, mask) for weight, loss in self.terms]
        return torch.stack(losses).sum()


class CrossEntropyLoss:
    """Cross entropy, a weighted mean over the pixels that count; 0 for a batch without any.

    Args:
        class_weights: one per label; None: all 1.
        total: sum over the processes that share a batch.
    """

    def __init__(
        self, class_weights: Sequence[float] | None = None, *, total: Total = of_one
    ) -> None:
        self.class_weights = class_weights
        self.total = total

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the loss of scores [B, K, *space] and class indices [B, 1, *space].

        Raises:
            ValueError: scores and indices differ in shape.
        """
        indices = counted_indices(output, target, mask)
        counts = indices != IGNORED
        weights, count = None, counts.sum().to(output.dtype)
        if self.class_weights is not None:
            weights = constants(self.class_weights, output)
            count = (weights[indices.clamp(min=0)] * counts).sum()
        loss = F.cross_entropy(output, indices, weights, ignore_index=IGNORED, reduction="sum")
        return ratio(loss, count, self.total)


class DiceLoss:
    """1 - mean Dice coefficient over the labels (Milletari et al., 3DV 2016, per label).

    Sums run over the whole batch. A pixel added to numerator and denominator makes absent labels
    harmless.

    Args:
        total: sum over the processes that share a batch.
    """

    def __init__(self, *, total: Total = of_one) -> None:
        self.total = total

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the loss of scores [B, K, *space] and class indices [B, 1, *space].

        Raises:
            ValueError: scores and indices differ in shape.
        """
        indices = counted_indices(output, target, mask)
        counts = (indices != IGNORED).unsqueeze(1)
        probabilities = output.softmax(dim=1) * counts
        one_hot = F.one_hot(indices.clamp(min=0), output.shape[1]).movedim(-1, 1) * counts
        axes = (0, *range(2, output.dim()))
        overlap = (probabilities * one_hot).sum(axes)
        size = probabilities.sum(axes) + one_hot.sum(axes)
        overlap, size = self.total(torch.stack([overlap, size]))
        return 1 - ((2 * overlap + 1) / (size + 1)).mean()


def in_unit(values: Tensor, scale: Sequence[float] | None) -> Tensor:
    """Return values [B, C, *space] in units of ``scale`` [C]; as they are if that is None."""
    if scale is None:
        return values
    unit = constants(scale, values)
    return values / unit.reshape(-1, *(1,) * (values.dim() - 2))


def check_shapes(output: Tensor, target: Tensor) -> None:
    """Raise ValueError unless both have one shape: torch would repeat the smaller one."""
    if output.shape[1] != target.shape[1]:
        raise ValueError(
            f"the target has {target.shape[1]} channels, the network outputs {output.shape[1]}"
        )
    if output.shape != target.shape:
        raise ValueError(
            f"the target has shape {tuple(target.shape)}, the output {tuple(output.shape)}"
        )


def counted_indices(output: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
    """Class indices [B, *space], `IGNORED` where the mask [B, 1, *space] is False."""
    if (len(output), 1, *output.shape[2:]) != target.shape:
        raise ValueError(
            f"the labels have shape {tuple(target.shape)}, the output {tuple(output.shape)}"
        )
    indices = target[:, 0]
    return indices if mask is None else torch.where(mask[:, 0], indices, IGNORED)


def balanced_weights(label_counts: Sequence[int]) -> list[float]:
    """Inverse frequency of each label: 1 if all are equally frequent, and 1 for an absent label."""
    total = sum(label_counts)
    return [total / (len(label_counts) * count) if count else 1.0 for count in label_counts]
