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
USUAL_SPREADS, USUALLY_FAR = (1 / 3, 3.0), 3.0
"""The same, for images that may be in another unit, or show less, such as air beside a sample."""
FLAT = 1e-2
"""Range of an output without contrast, in spreads of the training targets."""
CURE = (
    "give the network images in the unit of its training images (scale_input multiplies them), or "
    "train it on images like these, or with data.normalisation.per: image"
)
SAMPLE = 100_000  # pixels of an image that are looked at, about


class Plausibility:
    """Compares images and outputs with the statistics that a checkpoint holds.

    Args:
        normalisation: of the training images.
        any_unit: images are scaled by levels of their own, whatever their unit.
    """

    def __init__(self, normalisation: Normalisation, *, any_unit: bool = False) -> None:
        self.normalisation = normalisation
        mean, std = normalisation.input_mean, normalisation.input_std
        # A network that was never normalised says nothing about its images.
        self.known = not any_unit and (any(mean) or any(value != 1 for value in std))
        self.warned: set[str] = set()

    def check_input(self, image: Tensor, name: str) -> bool:
        """Return whether an image [n * C, *space] has the training images' unit; warn once if not.

        An image that is constant has no unit. A warning also tells of images that are merely
        unlike the training images.
        """
        difference = self._difference(image, usual=False)
        if difference:
            self._warn(
                "unit",
                f"{name}: {difference}: probably different data or units. Do not trust the "
                f"results; {CURE}",
            )
        elif unlike := self._difference(image, usual=True):
            self._warn("unlike", f"{name}: {unlike}. If these are other data or units, {CURE}")
        return not difference

    def _warn(self, kind: str, message: str) -> None:
        if kind not in self.warned:
            self.warned.add(kind)
            log.warning(message, extra={"hint_key": "scale_input"})

    def _difference(self, image: Tensor, *, usual: bool) -> str:
        """How the values of an image of another unit differ; empty for the same unit.

        Args:
            image: [n * C, *space].
            usual: images that are merely unusual count.
        """
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
        (least, most), far = (USUAL_SPREADS, USUALLY_FAR) if usual else (SPREADS, VERY_FAR)
        other = (spread < least) | (spread > most) | (distance > far)
        other |= (spread < LOW_SPREAD) & (distance > FAR)
        other &= found_std > 0
        if not other.any():
            return ""
        which = tuple(int(place) for place in other.nonzero()[0])
        return (
            f"its values are {_levels(found_mean[which], found_std[which])}, those of the "
            f"training images {_levels(mean[which[1]], std[which[1]])}"
        )

    def check_output(self, image: Tensor, output: Tensor, name: str, *, labels: bool) -> None:
        """Check that the output for an image of another unit is not constant; warn if unsure.

        Args:
            image: [n * C, *space].
            output: values [C, *space], or scores [K, *space].
            name: what the error calls the image.
            labels: the output are scores.

        Raises:
            InputError: it is constant, or one label everywhere, and the image is not.
        """
        unlike = self._difference(image, usual=True)
        if not unlike:
            return
        values = output.argmax(0, keepdim=True).double() if labels else output.double()
        size = [1.0] if labels else self.normalisation.target_std
        ranges = values.flatten(1).amax(1) - values.flatten(1).amin(1)
        if all(found < FLAT * unit for found, unit in zip(ranges.tolist(), size, strict=True)):
            what = "one label everywhere" if labels else "constant"
            message = f"{name}: the result is {what} although the image is not: {unlike}"
            if self._difference(image, usual=False):
                raise InputError(f"{message}; {CURE}", hint_key="scale_input")
            self._warn("constant", f"{message}. If these are other data or units, {CURE}")


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


def _levels(mean: Tensor, std: Tensor) -> str:
    return f"{mean.item():.4g} on average with a spread of {std.item():.4g}"
