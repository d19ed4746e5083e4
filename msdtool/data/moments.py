"""Mean, spread and range of values that come in pieces, in float64."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Vector = np.ndarray[Any, np.dtype[np.float64]]


@dataclass
class Moments:
    """Mean, spread and range per channel of the values seen so far."""

    count: int = 0
    mean: Vector = field(default_factory=lambda: np.zeros(0))
    squares: Vector = field(default_factory=lambda: np.zeros(0))
    """Sum of the squared differences from the mean."""
    minimum: float = np.inf
    maximum: float = -np.inf

    def add(self, values: Vector) -> None:
        """Add values [C, N], without loss of precision (Chan, Golub & LeVeque, 1979)."""
        if values.shape[1] == 0:
            return
        mean = values.mean(axis=1)
        squares = ((values - mean[:, np.newaxis]) ** 2).sum(axis=1)
        self.merge(
            Moments(values.shape[1], mean, squares, float(values.min()), float(values.max()))
        )

    def merge(self, other: "Moments") -> None:
        """Add all values that ``other`` has seen."""
        if other.count == 0:
            return
        if self.count == 0:
            self.mean, self.squares = np.zeros_like(other.mean), np.zeros_like(other.squares)
        count = self.count + other.count
        difference = other.mean - self.mean
        self.mean = self.mean + difference * (other.count / count)
        self.squares = (
            self.squares + other.squares + difference**2 * (self.count * other.count / count)
        )
        self.count = count
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)

    @property
    def spread(self) -> Vector:
        """Standard deviation per channel."""
        std = np.sqrt(self.squares / max(self.count, 1))
        # Rounding gives a constant channel a deviation far below its value.
        constant = std <= 1e-12 * np.maximum(np.abs(self.mean), 1e-300)
        return np.where(constant, 0.0, std)

    @property
    def std(self) -> Vector:
        """Standard deviation per channel; 1 for a channel that is constant."""
        spread = self.spread
        return np.where(spread == 0, 1.0, spread)
