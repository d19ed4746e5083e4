"""Whether images have the values that a network was trained on, and whether it sees anything.

A network applied to the same scan in another unit, counts scaled to 0..1 say, sees an image without
contrast, and its result is worthless although nothing fails.
"""

import logging

import torch
from torch import Tensor

from msdtool.errors import InputError
from msdtool.runs.checkpoint import Normalisation

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
    """

    def __init__(self, normalisation: Normalisation) -> None:
        self.normalisation = normalisation
        mean, std = normalisation.input_mean, normalisation.input_std
        # A network that was never normalised says nothing about its images.
        self.known = any(mean) or any(value != 1 for value in std)
        self.warned = False

    def check_input(self, image: Tensor, name: str) -> bool:
        """Return whether an image [n * C, *space] has the training images' unit; warn once if not.

        An image that is constant has no unit.
        """
        mean, std = (
            torch.tensor(values, dtype=torch.float64)
            for values in (self.normalisation.input_mean, self.normalisation.input_std)
        )
        if not self.known or len(image) % len(mean):
            return True
        step = max(1, image[0].numel() // SAMPLE)
        values = image.flatten(1)[:, ::step].cpu().double().unflatten(0, (-1, len(mean)))
        found_std, found_mean = torch.std_mean(values, 2, correction=0)
        spread, distance = found_std / std, (found_mean - mean).abs() / std
        other = (spread < SPREADS[0]) | (spread > SPREADS[1]) | (distance > VERY_FAR)
        other |= (spread < LOW_SPREAD) & (distance > FAR)
        other &= found_std > 0
        if not other.any():
            return True
        if not self.warned:
            self.warned = True
            which = tuple(int(place) for place in other.nonzero()[0])
            log.warning(
                f"{name}: its values are {_figures(found_mean[which], found_std[which])}, those "
                f"of the training images {_figures(mean[which[1]], std[which[1]])}: other data, or "
                "another unit. Results are not to be trusted; give the network images in the unit "
                "of its training images, or train it on such as these"
            )
        return False

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
        if self.check_input(image, name):
            return
        values = output.argmax(0, keepdim=True).double() if labels else output.double()
        size = [1.0] if labels else self.normalisation.target_std
        ranges = values.flatten(1).amax(1) - values.flatten(1).amin(1)
        if all(found < FLAT * unit for found, unit in zip(ranges.tolist(), size, strict=True)):
            what = "one label everywhere" if labels else "constant"
            raise InputError(
                f"{name}: the result is {what} although the image is not: its values are not in "
                "the unit of the training images (see the warning); convert them, or train the "
                "network on such images"
            )


def _figures(mean: Tensor, std: Tensor) -> str:
    return f"{mean.item():.4g} on average with a spread of {std.item():.4g}"
