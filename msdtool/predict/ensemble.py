"""Several networks for the same images, and how far their results lie apart.

The spread of networks that were trained from different seeds tells where they do not know
(Lakshminarayanan et al., NeurIPS 2017).
"""

import torch
from torch import Tensor

from msdtool.errors import ConfigError
from msdtool.plain_data import shown
from msdtool.runs.model import Model

ALIKE = ("task", "labels", "collapse_channels", "slab", "splits", "strategy", "scaling", "interval")
ALIKE_ARCHITECTURE = ("c_in", "c_out", "ndim", "scale")


def check_alike(first: str, one: Model, second: str, other: Model) -> None:
    """Raise ConfigError unless two networks, by what they are called, are for the same images."""
    pairs = {key: (getattr(one, key), getattr(other, key)) for key in ALIKE}
    for key in ALIKE_ARCHITECTURE:
        pairs[key] = getattr(one.architecture, key), getattr(other.architecture, key)
    for model, name in ((one, first), (other, second)):
        if model.architecture.stream is not None:
            raise ConfigError(
                f"ensemble: {name} works on image sequences, whose results are not averaged; "
                "predict with one network",
                hint_key="ensemble",
            )
    for key, (found, expected) in pairs.items():
        if found != expected:
            raise ConfigError(
                f"ensemble: {second} has {key} {shown(expected)}, {first} has {shown(found)}; "
                "name networks of the same inputs and outputs",
                hint_key="ensemble",
            )


class Spread:
    """The standard deviation of images that come one after the other (Welford, 1962)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean, self.squares = torch.zeros(()), torch.zeros(())

    def add(self, image: Tensor) -> None:
        """Add an image [C, *space]."""
        self.count += 1
        difference = image - self.mean
        self.mean = self.mean + difference / self.count
        self.squares = self.squares + difference * (image - self.mean)

    @property
    def value(self) -> Tensor:
        """The standard deviation of each pixel over the images [C, *space], by their number."""
        return (self.squares / self.count).sqrt()
