"""A small real data set: tomograms of photographs and micrographs at a low dose.

The pictures ship inside scikit-image, so nothing is downloaded.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from msdtool.atomic import atomic_path
from msdtool.data.writers import write_tiff
from msdtool.errors import ConfigError

Image = np.ndarray[Any, np.dtype[np.float32]]

SIZE = 192
"""Pixels on a side of each image."""
VIEWS = 64
"""Projections over half a turn; sampling theory asks for about SIZE * pi / 2 = 300."""
PHOTONS = 20_000
"""Photons per detector pixel of an open beam."""
ABSORPTION = 3.0
"""Largest line integral: exp(-3), 5 % of the photons, pass the densest path."""

# Different pictures in each part, so that the test shows what the network learnt about noise.
PICTURES = {
    "train": (
        "astronaut", "brick", "camera", "coffee", "coins", "grass", "gravel", "horse",
        "hubble_deep_field", "immunohistochemistry", "page", "rocket",
    ),
    "validation": ("chelsea", "text"),
    "test": ("cell", "moon", "retina"),
}  # fmt: skip
WINDOWS = {"train": 4, "validation": 2, "test": 2}
"""Windows cut from each picture."""
NUM_IMAGES = sum(len(names) * WINDOWS[part] for part, names in PICTURES.items())

CONFIG = """\
# Clean low-dose, few-view tomograms. Written by: msdtool demo tomograms
task: regression
data:
  train:      {input: train/noisy, target: train/clean}
  validation: {input: validation/noisy, target: validation/clean}
  crop: 128
  augment: true
network: {depth: 30}
training: {epochs: 40, batch_size: 1, learning_rate: 3.0e-3, schedule: cosine, loss: L2, seed: 1}
run: {directory: run}
"""


def write_tomograms(folder: Path, tick: Callable[[int], None] = lambda count: None) -> Path:
    """Write train/, validation/ and test/ with noisy/ and clean/ images, and denoise.yaml.

    Args:
        folder: where to write.
        tick: called with the number of images done.

    Returns:
        The path of the config.

    Raises:
        ConfigError: scikit-image is not installed.
    """
    try:
        from skimage import data  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError("the demo needs scikit-image: pip install 'msdtool[demo]'") from None
    rng = np.random.default_rng(0)
    count = 0
    for part, names in PICTURES.items():
        for name in names:
            picture = _grey(getattr(data, name)())
            for window in range(WINDOWS[part]):
                clean = _window(picture, rng)
                file = f"{name}_{window + 1}.tif"
                write_tiff(folder / part / "noisy" / file, _scan(clean, rng)[np.newaxis])
                write_tiff(folder / part / "clean" / file, clean[np.newaxis])
                count += 1
                tick(count)
    config = folder / "denoise.yaml"
    with atomic_path(config) as temporary:
        temporary.write_text(CONFIG, encoding="utf-8")
    return config


def _grey(picture: np.ndarray[Any, np.dtype[Any]]) -> Image:
    """A picture as grey values from 0 to 1."""
    grey = picture[..., :3].mean(axis=-1) if picture.ndim == 3 else picture
    grey = grey.astype(np.float32)
    return (grey - grey.min()) / (grey.max() - grey.min())


def _window(picture: Image, rng: np.random.Generator) -> Image:
    """A random square of the picture, 0 outside the disc that a tomograph sees."""
    side = min(*picture.shape, 2 * SIZE)
    top, left = (int(rng.integers(0, length - side + 1)) for length in picture.shape)
    from skimage.transform import resize  # noqa: PLC0415 - an extra

    square = resize(picture[top : top + side, left : left + side], (SIZE, SIZE), anti_aliasing=True)
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    inside = axis[:, np.newaxis] ** 2 + axis**2 < (SIZE / 2 - 2) ** 2
    return np.where(inside, square, 0).astype(np.float32)


def _scan(image: Image, rng: np.random.Generator) -> Image:
    """Measure an image with few photons from few angles and reconstruct it."""
    from skimage.transform import iradon, radon  # noqa: PLC0415 - an extra

    angles = np.linspace(0, 180, VIEWS, endpoint=False)
    line_integrals = radon(image, angles)
    scale = ABSORPTION / line_integrals.max()
    photons = rng.poisson(PHOTONS * np.exp(-scale * line_integrals))
    measured = -np.log(np.maximum(photons, 1) / PHOTONS) / scale
    return iradon(measured, angles, filter_name="ramp").astype(np.float32)
