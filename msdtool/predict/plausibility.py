"""Whether images have the values that a network was trained on, and whether it sees anything.

A network applied to the same scan in another unit, counts scaled to 0..1 say, sees an image without
contrast, and its result is worthless although nothing fails.
"""

import logging

import torch
from torch import Tensor

from msdtool.data.pairing import not_finite_text, num_not_finite
from msdtool.errors import InputError
from msdtool.runs.model import Normalisation

log = logging.getLogger(__name__)

SPREADS = 0.02, 10.0
"""Spreads of an image, in training spreads, below and above which it is another unit."""
LOW_SPREAD, FAR = 0.1, 1.5
"""It is one as well below this spread, if the mean is this many training spreads away."""
VERY_FAR = 10.0
"""Or if the mean is this many training spreads away, whatever the spread."""
FLAT = 1e-2
"""Range of an output without contrast, in spreads of the training targets."""
SAMPLE = 100_000  # pixels of an image that are looked at, about


class Plausibility:
    """Compares images and outputs with the statistics that a checkpoint holds.

    Args:
        normalisation: of the training images.
        any_unit: images are scaled by figures of their own, whatever their unit.
    """

    def __init__(self, normalisation: Normalisation, *, any_unit: bool = False) -> None:
        self.normalisation = normalisation
        mean, std = normalisation.input_mean, normalisation.input_std
        # A network that was never normalised says nothing about its images.
        self.known = not any_unit and (any(mean) or any(value != 1 for value in std))
        self.warned = False

    def check_input(self, image: Tensor, name: str) -> bool:
        """Return whether an image [n * C, *space] has the training images' unit; warn once if not.

        An image that is constant has no unit.
        """
        difference = self._difference(image)
        if difference and not self.warned:
            self.warned = True
            log.warning(
                f"{name}: {difference}: probably different data or units. Do not trust the "
                "results; give the network images in the unit of its training images, or train it "
                "on images like these"
            )
        return not difference

    def _difference(self, image: Tensor) -> str:
        """How the values of an image of another unit differ; empty for the same unit."""
        mean, std = (
            torch.tensor(values, dtype=torch.float64)
            for values in (self.normalisation.input_mean, self.normalisation.input_std)
        )
        if not self.known or len(image) % len(mean):
            return ""
        step = max(1, image[0].numel() // SAMPLE)
        values = image.flatten(1)[:, ::step].cpu().double().unflatten(0, (-1, len(mean)))
        found_std, found_mean = torch.std_mean(values, 2, correction=0)
        spread, distance = found_std / std, (found_mean - mean).abs() / std
        other = (spread < SPREADS[0]) | (spread > SPREADS[1]) | (distance > VERY_FAR)
        other |= (spread < LOW_SPREAD) & (distance > FAR)
        other &= found_std > 0
        if not other.any():
            return ""
        which = tuple(int(place) for place in other.nonzero()[0])
        return (
            f"its values are {_figures(found_mean[which], found_std[which])}, those of the "
            f"training images {_figures(mean[which[1]], std[which[1]])}"
        )

    def check_output(self, image: Tensor, output: Tensor, name: str, *, labels: bool) -> None:
        """Check that the output for an image of another unit is not constant.

        Args:
            image: [n * C, *space].
            output: values [C, *space], or scores [K, *space].
            name: what the error calls the image.
            labels: the output are scores.

        Raises:
            InputError: it is constant, or one label everywhere, and the image is not.
        """
        difference = self._difference(image)
        if not difference:
            return
        values = output.argmax(0, keepdim=True).double() if labels else output.double()
        size = [1.0] if labels else self.normalisation.target_std
        ranges = values.flatten(1).amax(1) - values.flatten(1).amin(1)
        if all(found < FLAT * unit for found, unit in zip(ranges.tolist(), size, strict=True)):
            what = "one label everywhere" if labels else "constant"
            raise InputError(
                f"{name}: the result is {what} although the image is not: {difference}; convert "
                "the image to the unit of the training images, or train the network on such images"
            )


def num_unusable(output: Tensor, *, labels: bool) -> tuple[int, int]:
    """Count the values, or the pixels of a segmentation, that are not finite, and all of them.

    Args:
        output: values or scores [C, *space]. A score may be minus infinity, a probability of 0,
            but not all of a pixel's.
        labels: the output are scores.
    """
    values = output.amax(0) if labels else output
    return num_not_finite(values), values.numel()


def unusable_text(name: str, bad: int, total: int) -> str:
    """Say that ``bad`` of ``total`` values of the output for a finite image are not finite."""
    return (
        f"{not_finite_text(name, bad, total)} in the network's output, although the image's are "
        "not: do not trust the result. Compare the image with the training images, or train again "
        "with a lower training.learning_rate"
    )


def _figures(mean: Tensor, std: Tensor) -> str:
    return f"{mean.item():.4g} on average with a spread of {std.item():.4g}"
