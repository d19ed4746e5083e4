"""From pairs to training samples: a window, its geometry, a change of intensity, a hole."""

from collections.abc import Sequence

import numpy as np

from msdtool.data.augment import Intensity
from msdtool.data.blind_spots import BlindSpots
from msdtool.data.cut_out import CutOut
from msdtool.data.foreground import Foreground
from msdtool.data.geometry import Geometry, deformed
from msdtool.data.interfaces import Pairs, Sample
from msdtool.data.patches import Window, extent, random_window, whole, window_around
from msdtool.data.transforms import random_symmetry
from msdtool.errors import InputError
from msdtool.wording import size_text

Draw = tuple[int, int]
"""An epoch and the number of a sample in it."""


class TrainingSamples:
    """The samples of an epoch; everything random is a function of (seed, epoch, number).

    Args:
        pairs: what to train on.
        seed: for everything random.
        crop: size of random windows; None: whole images.
        crops_per_image: number of windows of each pair in an epoch.
        foreground: where to find pixels for windows to contain.
        foreground_fraction: fraction of the windows that contain such a pixel.
        augment: rotate and flip at random.
        in_plane: keep the first axis of volumes in place; see `random_symmetry`.
        keep_shape: leave out symmetries that change a sample's shape.
        geometry: rotations, changes of size and elastic deformations.
        intensity: changes of the inputs' values.
        blind_spots: pixels that are hidden in the inputs, before anything else changes.
        cut_out: holes in the inputs.
    """

    def __init__(
        self,
        pairs: Pairs,
        *,
        seed: int,
        crop: Sequence[int] | None = None,
        crops_per_image: int = 1,
        foreground: Foreground | None = None,
        foreground_fraction: float = 0.0,
        augment: bool = False,
        in_plane: bool = False,
        keep_shape: bool = False,
        geometry: Geometry | None = None,
        intensity: Intensity | None = None,
        blind_spots: BlindSpots | None = None,
        cut_out: CutOut | None = None,
    ) -> None:
        self.pairs = pairs
        self.seed = seed
        self.crop = crop
        self.crops_per_image = crops_per_image
        self.foreground = foreground
        self.foreground_fraction = foreground_fraction
        self.augment = augment
        self.in_plane = in_plane
        self.keep_shape = keep_shape
        self.geometry = geometry
        self.intensity = intensity
        self.blind_spots = blind_spots
        self.cut_out = cut_out

    def __len__(self) -> int:
        """Samples in an epoch."""
        return len(self.pairs) * self.crops_per_image

    def sample(self, draw: Draw) -> Sample:
        """Read the window of a draw, change its geometry and its values.

        Raises:
            InputError: a file cannot be used, or is smaller than the crop.
        """
        epoch, number = draw
        index = number // self.crops_per_image
        rng = np.random.default_rng([self.seed, epoch, number])
        window = None if self.crop is None else self._window(index, self.crop, rng)
        sample = self._read(index, window, rng)
        if self.blind_spots is not None:
            sample = self.blind_spots(sample, rng, self.pairs.slab)
        if self.augment:
            sample = random_symmetry(
                sample, rng, self.keep_shape, slab=self.pairs.slab, in_plane=self.in_plane
            )
        if self.intensity is not None:
            spread = None if sample.levels is None else sample.levels[1]
            sample = sample._replace(input=self.intensity(sample.input, rng, spread))
        if self.cut_out is not None:
            sample = self.cut_out(sample, rng, self.pairs.scale)
        return sample

    def _read(self, index: int, window: Window | None, rng: np.random.Generator) -> Sample:
        if self.geometry is None:
            return self.pairs.sample(index, window)
        space = self.pairs.space(index)
        window = whole(space) if window is None else window
        deformation = self.geometry.draw(extent(window), rng)
        return deformed(self.pairs, index, window, space, deformation)

    def _window(self, index: int, crop: Sequence[int], rng: np.random.Generator) -> Window:
        space = self.pairs.space(index)
        try:
            if self.foreground is not None and rng.random() < self.foreground_fraction:
                point = self.foreground.draw(index, rng)
                if point is not None:
                    return window_around(point, space, crop, rng)
            return random_window(space, crop, rng)
        except InputError:
            raise
        except ValueError:
            raise InputError(
                f"{self.pairs.name(index)} is {size_text(space)} pixels, "
                f"smaller than data.crop {size_text(crop)}; choose a smaller crop"
            ) from None
