"""Noisy images of four shapes that differ only in outline: a segmentation that needs context.

Squares, frames, discs and rings have the same brightness, so the value of a pixel does not reveal
its label; the network must use the neighbourhood, through noise as strong as the signal.
"""

from pathlib import Path
from typing import Any

import numpy as np

from msdtool.data.writers import write_tiff
from msdtool.demo.files import begin
from msdtool.progress import Progress, no_progress

SIZE = 256
NUM_SHAPES = 24
"""Number of shapes per image; later ones cover earlier ones."""
RADIUS = (8, 24)
"""Smallest and largest half width, in pixels."""
WALL = 0.4
"""Thickness of frames and rings, as a fraction of their radius."""
NOISE = 1.0
"""Standard deviation of the noise; background and shapes are 0 and 1."""
PARTS = {"train": 100, "validation": 10, "test": 10}

CONFIG = """\
# Label squares (1), frames (2), discs (3) and rings (4) in strong noise.
# Written by: msdtool demo shapes
task: segmentation
data:
  train:      {input: train/noisy, target: train/labels}
  validation: {input: validation/noisy, target: validation/labels}
  labels: 5
network: {depth: 30}
training: {epochs: 10, batch_size: 1, loss: cross_entropy, seed: 1}
run: {directory: run}
"""


def write_shapes(folder: Path, progress: Progress = no_progress) -> Path:
    """Write train/, validation/ and test/ with noisy/ and labels/ images, and segment.yaml.

    Args:
        folder: where to write.
        progress: called with the number of images done.

    Returns:
        The path of the config.

    Raises:
        RunDirectoryError: the folder holds other files of these names.
    """
    config = begin(folder / "segment.yaml", CONFIG, list(PARTS))
    rng = np.random.default_rng(0)
    count, total = 0, sum(PARTS.values())
    for part, num_images in PARTS.items():
        for index in range(num_images):
            labels = draw_labels(rng)
            noisy = (labels > 0) + rng.normal(0, NOISE, labels.shape)
            file = f"shapes_{index:03}.tif"
            write_tiff(folder / part / "noisy" / file, noisy[np.newaxis].astype(np.float32))
            write_tiff(folder / part / "labels" / file, labels[np.newaxis])
            count += 1
            progress(count, total)
    return config


def draw_labels(rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Draw shapes at random places, [SIZE, SIZE] with labels 0 (background) to 4."""
    labels = np.zeros((SIZE, SIZE), dtype=np.uint8)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for _ in range(NUM_SHAPES):
        kind = int(rng.integers(1, 5))
        radius = rng.uniform(*RADIUS)
        row, column = rng.uniform(0, SIZE, 2)
        if kind in (1, 2):
            distance = np.maximum(abs(rows - row), abs(columns - column))
        else:
            distance = np.hypot(rows - row, columns - column)
        inner = radius * (1 - WALL) if kind in (2, 4) else -1.0
        labels[distance <= radius] = 0  # a hole shows the background, not the shape below
        labels[(distance <= radius) & (distance > inner)] = kind
    return labels
