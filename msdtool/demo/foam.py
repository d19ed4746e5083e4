"""A noisy tomographic scan of foam, to be denoised without any other data: Noise2Inverse.

The projection angles are split into four sub-reconstructions with independent noise (Hendriksen,
Pelt & Batenburg, Noise2Inverse, IEEE Trans. Comput. Imaging 6:1320-1335, 2020, which also uses
foam). The clean volume only serves to evaluate the result; training does not see it.
"""

from pathlib import Path
from typing import Any

import numpy as np

from msdtool.data.writers import write_tiff
from msdtool.demo.files import begin
from msdtool.demo.tomography import Array, measure, reconstruct, require_scikit_image
from msdtool.progress import Progress, no_progress

SIZE = 192
"""Side of each slice, in pixels."""
NUM_SLICES = 32
NUM_BUBBLES = 400
RADIUS = (3.0, 20.0)
"""Radius of the smallest and largest bubble, in pixels."""
NUM_SPLITS = 4
TUNED_ON = range(14, 18)
"""Slices that training leaves out to validate on."""
VIEWS = 256
"""Projections over half a turn."""
PHOTONS = 500
"""Photons per detector pixel of the open beam."""
ABSORPTION = 2.0
"""Largest line integral: exp(-2), 14 % of the photons, pass along the densest path."""

CONFIG = f"""\
# Denoise a scan with nothing but itself. Written by: msdtool demo noise2inverse
task: regression
data:
  train:
    splits: [{", ".join(f"split_{k + 1}.tif" for k in range(NUM_SPLITS))}]
    strategy: X:1
  validation: {{slices: [{TUNED_ON.start}, {TUNED_ON.stop}]}}
  crop: 128
  data_range: 1
  augment: true
network: {{depth: 30}}
training: {{epochs: 15, batch_size: 1, loss: L2, seed: 1}}
run: {{directory: run}}
"""


def write_foam(folder: Path, progress: Progress = no_progress) -> Path:
    """Write split_1.tif ... split_4.tif, clean.tif and noise2inverse.yaml.

    Args:
        folder: where to write.
        progress: called with the number of slices done.

    Returns:
        The path of the config.

    Raises:
        ConfigError: scikit-image is not installed.
        RunDirectoryError: the folder holds other files of these names.
    """
    require_scikit_image()
    config = begin(
        folder / "noise2inverse.yaml",
        CONFIG,
        ["clean.tif", *(f"split_{k + 1}.tif" for k in range(NUM_SPLITS))],
    )
    rng = np.random.default_rng(0)
    bubbles = _bubbles(rng)
    clean = np.stack([_slice(bubbles, z) for z in range(NUM_SLICES)])
    splits = np.empty((NUM_SPLITS, *clean.shape), np.float32)
    for z, image in enumerate(clean):
        splits[:, z] = _scan(image, rng)
        progress(z + 1, NUM_SLICES)
    write_tiff(folder / "clean.tif", clean[np.newaxis])
    for k, split in enumerate(splits):
        write_tiff(folder / f"split_{k + 1}.tif", split[np.newaxis])
    return config


def _bubbles(rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Disjoint spheres, large ones first: rows of z, y, x, radius."""
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
    """Measure a slice with few photons; reconstruct every K-th view separately, [K, H, W]."""
    measured, angles = measure(image, VIEWS, PHOTONS, ABSORPTION, rng)
    every_kth = [slice(k, None, NUM_SPLITS) for k in range(NUM_SPLITS)]
    return np.stack([reconstruct(measured[:, part], angles[part]) for part in every_kth])
