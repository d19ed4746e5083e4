"""A noisy tomographic scan of foam, to be denoised with nothing but itself: Noise2Inverse.

The projection angles are dealt out to four sub-reconstructions, so that their noise is independent
(Hendriksen, Pelt & Batenburg, Noise2Inverse, IEEE Trans. Comput. Imaging 6:1320-1335, 2020, which
uses foam, too). The clean volume is there only to measure the result; training does not see it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from msdtool.atomic import atomic_path
from msdtool.data.writers import write_tiff
from msdtool.errors import ConfigError

Array = np.ndarray[Any, np.dtype[np.float32]]

SIZE = 192
"""Pixels on a side of each slice."""
NUM_SLICES = 32
NUM_BUBBLES = 400
RADIUS = (3.0, 20.0)
"""Smallest and largest bubble, in pixels."""
NUM_SPLITS = 4
VIEWS = 256
"""Projections over half a turn."""
PHOTONS = 500
"""Photons per detector pixel of an open beam."""
ABSORPTION = 2.0
"""Largest line integral: exp(-2), 14 % of the photons, pass the densest path."""

CONFIG = f"""\
# Denoise a scan with nothing but itself. Written by: msdtool demo noise2inverse
task: regression
data:
  train:
    splits: [{", ".join(f"split_{k + 1}.tif" for k in range(NUM_SPLITS))}]
    strategy: X:1
  validation: {{slices: [14, 18]}}
  crop: 128
  data_range: 1
  augment: true
network: {{depth: 30}}
training: {{epochs: 15, batch_size: 1, learning_rate: 3.0e-3, schedule: cosine, loss: L2, seed: 1}}
run: {{directory: run}}
"""


def write_foam(folder: Path, tick: Callable[[int], None] = lambda count: None) -> Path:
    """Write split_1.tif ... split_4.tif, clean.tif and noise2inverse.yaml.

    Args:
        folder: where to write.
        tick: called with the number of slices done.

    Returns:
        The path of the config.

    Raises:
        ConfigError: scikit-image is not installed.
    """
    try:
        from skimage.transform import radon  # noqa: F401, PLC0415 - an extra
    except ImportError:
        raise ConfigError("the demo needs scikit-image: pip install 'msdtool[demo]'") from None
    rng = np.random.default_rng(0)
    bubbles = _bubbles(rng)
    clean = np.stack([_slice(bubbles, z) for z in range(NUM_SLICES)])
    splits = np.empty((NUM_SPLITS, *clean.shape), np.float32)
    for z, image in enumerate(clean):
        splits[:, z] = _scan(image, rng)
        tick(z + 1)
    write_tiff(folder / "clean.tif", clean[np.newaxis])
    for k, split in enumerate(splits):
        write_tiff(folder / f"split_{k + 1}.tif", split[np.newaxis])
    config = folder / "noise2inverse.yaml"
    with atomic_path(config) as temporary:
        temporary.write_text(CONFIG, encoding="utf-8")
    return config


def _bubbles(rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Spheres that do not overlap, large ones first: rows of z, y, x, radius."""
    placed = np.empty((0, 4))
    for radius in np.geomspace(RADIUS[1], RADIUS[0], NUM_BUBBLES):
        for _ in range(100):
            z = rng.uniform(-radius, NUM_SLICES + radius)
            y, x = rng.uniform(-SIZE / 2, SIZE / 2, 2)
            if np.hypot(y, x) + radius > 0.44 * SIZE:
                continue
            distances = np.linalg.norm(placed[:, :3] - (z, y, x), axis=1)
            if (distances > placed[:, 3] + radius + 1).all():
                placed = np.vstack([placed, (z, y, x, radius)])
                break
    return placed


def _slice(bubbles: np.ndarray[Any, np.dtype[np.float64]], z: float) -> Array:
    """A slice of the foam: 1 in the cylinder, 0 in bubbles and outside; edges a pixel wide."""
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    y, x = axis[:, np.newaxis], axis[np.newaxis, :]
    image = np.clip(0.46 * SIZE - np.hypot(y, x) + 0.5, 0, 1)
    for z0, y0, x0, radius in bubbles[np.abs(bubbles[:, 0] - z) < bubbles[:, 3]]:
        at_height = np.sqrt(radius**2 - (z - z0) ** 2)
        image = image * np.clip(np.hypot(y - y0, x - x0) - at_height + 0.5, 0, 1)
    return image.astype(np.float32)


def _scan(image: Array, rng: np.random.Generator) -> Array:
    """Measure a slice with few photons; reconstruct every K-th view by itself, [K, H, W]."""
    from skimage.transform import iradon, radon  # noqa: PLC0415 - an extra

    angles = np.linspace(0, 180, VIEWS, endpoint=False)
    line_integrals = radon(image, angles)
    scale = ABSORPTION / line_integrals.max()
    photons = rng.poisson(PHOTONS * np.exp(-scale * line_integrals))
    measured = -np.log(np.maximum(photons, 1) / PHOTONS) / scale
    return np.stack([
        iradon(measured[:, k::NUM_SPLITS], angles[k::NUM_SPLITS], filter_name="ramp")
        for k in range(NUM_SPLITS)
    ]).astype(np.float32)  # fmt: skip
