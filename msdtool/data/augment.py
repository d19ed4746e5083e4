"""Random changes of an input's values, as they might occur in another scan of the same object.

They are applied in the order in which they occur in a measurement: blur, gamma, gain, offset, then
Poisson and Gaussian noise. Each strength is drawn for each sample, uniformly from its range.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Range = tuple[float, float]

TRUNCATE = 4.0
"""Standard deviations at which the Gaussian of a blur is truncated."""
EXACT = 1e15
"""Expected counts above which their noise is below the precision of float32."""


@dataclass(frozen=True)
class Intensity:
    """Ranges of strengths; None: the change is not applied.

    Attributes:
        blur: standard deviation of a Gaussian, in pixels, along all spatial axes.
        gamma: exponent on values scaled to 0 to 1 between the sample's minimum and maximum.
        gain: factor on the values.
        offset: added to the values, in ``unit``.
        poisson_noise: the value q of one counted event, in the data's own unit: a value v becomes
            q * Poisson(v / q), with variance q * v. Values below 0 are left unchanged.
        gaussian_noise: standard deviation, in ``unit``.
        unit: per channel, [C]: the standard deviation of the training inputs.
    """

    unit: Sequence[float]
    blur: Range | None = None
    gamma: Range | None = None
    gain: Range | None = None
    offset: Range | None = None
    poisson_noise: Range | None = None
    gaussian_noise: Range | None = None

    def __call__(
        self, input: Tensor, rng: np.random.Generator, spread: Tensor | None = None
    ) -> Tensor:
        """Return a changed copy of ``input`` [C, *space]; all slices of a slab change alike.

        Args:
            input: the image.
            rng: for everything random.
            spread: what the image is divided by where images have levels of their own, per channel
                of a slice; ``unit`` then refers to what that makes of them.
        """
        unit = torch.tensor(self.unit, dtype=input.dtype).reshape(-1, *(1,) * (input.dim() - 1))
        if spread is not None:
            factors = spread.to(input).repeat(len(input) // len(spread))
            unit = unit * factors.reshape(-1, *(1,) * (input.dim() - 1))
        if self.blur is not None:
            input = gaussian_blur(input, rng.uniform(*self.blur))
        if self.gamma is not None:
            input = _gamma(input, rng.uniform(*self.gamma))
        if self.gain is not None:
            input = input * rng.uniform(*self.gain)
        if self.offset is not None:
            input = input + rng.uniform(*self.offset) * unit
        if self.poisson_noise is not None:
            input = _poisson(input, rng.uniform(*self.poisson_noise), rng)
        if self.gaussian_noise is not None:
            strength = rng.uniform(*self.gaussian_noise)
            noise = torch.from_numpy(rng.standard_normal(tuple(input.shape), dtype=np.float32))
            input = input + strength * unit * noise
        return input


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Convolve [C, *space] with a Gaussian, axis by axis; beyond the border, edge pixels repeat."""
    radius = round(TRUNCATE * sigma)
    if radius == 0:
        return image
    steps = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(image.dtype)
    for axis in range(1, image.dim()):
        lines = image.movedim(axis, -1)
        rows = lines.reshape(-1, 1, lines.shape[-1])
        padded = torch.nn.functional.pad(rows, (radius, radius), mode="replicate")
        blurred = torch.nn.functional.conv1d(padded, kernel.reshape(1, 1, -1))
        image = blurred.reshape(lines.shape).movedim(-1, axis)
    return image


def _gamma(image: Tensor, exponent: float) -> Tensor:
    low, high = image.min(), image.max()
    if not high > low:
        return image
    return low + (high - low) * ((image - low) / (high - low)) ** exponent


def _poisson(image: Tensor, quantum: float, rng: np.random.Generator) -> Tensor:
    if quantum == 0:
        return image
    events = image.numpy().astype(np.float64) / quantum
    counted = (events > 0) & (events < EXACT)
    events[counted] = rng.poisson(events[counted])
    return torch.from_numpy((events * quantum).astype(np.float32))
