"""Noisy pictures of four shapes that differ only in outline: a segmentation that needs context.

Squares, frames, discs and rings have the same brightness, so that no pixel's value tells its label;
the network has to look at the neighbourhood, through noise as strong as the signal.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from msdtool.atomic import atomic_path
from msdtool.data.writers import write_tiff

SIZE = 256
NUM_SHAPES = 24
"""Shapes per image; later ones cover earlier ones."""
RADIUS = (8, 24)
"""Smallest and largest half width, in pixels."""
WALL = 0.4
"""Thickness of frames and rings, as a share of their radius."""
NOISE = 1.0
"""Standard deviation; background and shapes are 0 and 1."""
PARTS = {"train": 100, "validation": 10, "test": 10}
NUM_IMAGES = sum(PARTS.values())

CONFIG = """\
# Label squares (1), frames (2), discs (3) and rings (4) in strong noise.
# Written by: msdtool demo shapes
task: segmentation
data:
  train:      {input: train/noisy, target: train/labels}
  validation: {input: validation/noisy, target: validation/labels}
  labels: 5
network: {depth: 30}
training: {epochs: 10, batch_size: 1, learning_rate: 1.0e-3, loss: cross_entropy, seed: 1}
run: {directory: run}
"""


def write_shapes(folder: Path, tick: Callable[[int], None] = lambda count: None) -> Path:
    """Write train/, validation/ and test/ with noisy/ and labels/ images, and segment.yaml.

    Args:
        folder: where to write.
        tick: called with the number of images done.

    Returns:
        The path of the config.
    """
    rng = np.random.default_rng(0)
    count = 0
    for part, num_images in PARTS.items():
        for index in range(num_images):
            labels = draw_labels(rng)
            noisy = (labels > 0) + rng.normal(0, NOISE, labels.shape)
            file = f"shapes_{index:03}.tif"
            write_tiff(folder / part / "noisy" / file, noisy[np.newaxis].astype(np.float32))
            write_tiff(folder / part / "labels" / file, labels[np.newaxis])
            count += 1
            tick(count)
    config = folder / "segment.yaml"
    with atomic_path(config) as temporary:
        temporary.write_text(CONFIG, encoding="utf-8")
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
