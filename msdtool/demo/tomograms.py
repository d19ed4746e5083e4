"""A small data set of real images: few-view tomograms of photographs and micrographs.

The images are part of scikit-image, so nothing is downloaded.
"""

from pathlib import Path
from typing import Any

import numpy as np

from msdtool.data.writers import write_tiff
from msdtool.demo.files import begin
from msdtool.demo.tomography import Array, measure, reconstruct, require_scikit_image
from msdtool.progress import Progress, no_progress

SIZE = 192
"""Side of each image, in pixels."""
VIEWS = 16
"""Projections over half a turn; sampling theory asks for about SIZE * pi / 2 = 300."""
PHOTONS = 200_000
"""Photons per detector pixel of the open beam."""
ABSORPTION = 3.0
"""Largest line integral: exp(-3), 5 % of the photons, pass along the densest path."""

# Different images in each part, so that the test shows what the network learnt about noise.
IMAGES = {
    "train": (
        "astronaut", "brick", "cell", "coffee", "grass", "gravel", "horse", "hubble_deep_field",
        "moon", "page", "retina", "rocket",
    ),
    "validation": ("chelsea", "text"),
    "test": ("camera", "coins", "immunohistochemistry"),
}  # fmt: skip
WINDOWS = {"train": 8, "validation": 2, "test": 2}
"""Number of windows cut from each image."""

CONFIG = """\
# Clean few-view tomograms. Written by: msdtool demo tomograms
task: regression
data:
  train:      {input: train/noisy, target: train/clean}
  validation: {input: validation/noisy, target: validation/clean}
  crop: 128
  data_range: 1
  augment: true
network: {depth: 60}
training: {epochs: 60, batch_size: 1, loss: L2, seed: 1}
run: {directory: run}
"""


def write_tomograms(folder: Path, progress: Progress = no_progress) -> Path:
    """Write train/, validation/ and test/ with noisy/ and clean/ images, and denoise.yaml.

    Args:
        folder: where to write.
        progress: called with the number of images done.

    Returns:
        The path of the config.

    Raises:
        ConfigError: scikit-image is not installed.
        RunDirectoryError: the folder holds other files of these names.
    """
    require_scikit_image()
    from skimage import data  # noqa: PLC0415 - an extra

    config = begin(folder / "denoise.yaml", CONFIG, list(IMAGES))
    rng = np.random.default_rng(0)
    count, total = 0, sum(len(names) * WINDOWS[part] for part, names in IMAGES.items())
    for part, names in IMAGES.items():
        for name in names:
            image = _grey(getattr(data, name)())
            for window in range(WINDOWS[part]):
                clean = _window(image, rng)
                file = f"{name}_{window + 1}.tif"
                write_tiff(folder / part / "noisy" / file, _scan(clean, rng)[np.newaxis])
                write_tiff(folder / part / "clean" / file, clean[np.newaxis])
                count += 1
                progress(count, total)
    return config


def disc(side: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which pixels [side, side] of an image the tomograph sees from all sides."""
    axis = np.arange(side) - (side - 1) / 2
    inside: np.ndarray[Any, np.dtype[np.bool_]] = (
        axis[:, np.newaxis] ** 2 + axis**2 < (side / 2 - 2) ** 2
    )
    return inside


def _grey(image: np.ndarray[Any, np.dtype[Any]]) -> Array:
    """An image as grey values from 0 to 1."""
    grey = image[..., :3].mean(axis=-1) if image.ndim == 3 else image
    grey = grey.astype(np.float32)
    return (grey - grey.min()) / (grey.max() - grey.min())


def _window(image: Array, rng: np.random.Generator) -> Array:
    """A random square of the image, 0 outside the disc that a tomograph sees."""
    side = min(*image.shape, 2 * SIZE)
    top, left = (int(rng.integers(0, length - side + 1)) for length in image.shape)
    from skimage.transform import resize  # noqa: PLC0415 - an extra

    square = resize(image[top : top + side, left : left + side], (SIZE, SIZE), anti_aliasing=True)
    return np.where(disc(SIZE), square, 0).astype(np.float32)


def _scan(image: Array, rng: np.random.Generator) -> Array:
    """Measure an image at few angles and reconstruct it, 0 outside the disc as the image is."""
    scan = reconstruct(*measure(image, VIEWS, PHOTONS, ABSORPTION, rng))
    return np.where(disc(len(scan)), scan, 0).astype(np.float32)
