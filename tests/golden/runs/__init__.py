"""Run folders of an earlier msdtool, stopped halfway, and the images that they were trained on.

Each folder here holds an experiment, ``run/`` as it was left (in ``/golden``, which stands for the
folder of the experiment), and ``expected.npz``: what the run predicted when it was stopped, and the
weights that it had after it was resumed and finished. ``rows.json`` holds its epochs' rows.
"""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

Array = np.ndarray[Any, np.dtype[np.int64]]


def triangle(x: Array, period: int) -> Array:
    """A wave of integers from 0 to ``period``."""
    return np.abs(x % (2 * period) - period)


def volume(shape: tuple[int, int, int], number: int) -> Array:
    """Waves [Z, Y, X] of integers: the same on every machine, unlike random numbers."""
    z, y, x = np.indices(shape)
    return 100 + 10 * triangle(3 * x + 5 * number + 2 * z, 12) + 8 * triangle(y + 3 * number, 10)


def noise(shape: tuple[int, int, int], number: int) -> Array:
    """Integers [Z, Y, X] that look random, -36 to 36."""
    z, y, x = np.indices(shape)
    return 2 * ((31 * x * x + 17 * y * y + 7 * x * y + 101 * number + 53 * z * z) % 37 - 18)


def write_images(folder: Path) -> None:
    """Write the images of all experiments, as TIFFs of uint16 or, for labels, uint8."""

    def write(name: str, image: Array, dtype: type = np.uint16) -> None:
        path = folder / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, image.astype(dtype), photometric="minisblack")

    for number in range(7):
        part = "train" if number < 5 else "validation"
        clean = volume((1, 14, 16), number)
        large = clean.repeat(2, 1).repeat(2, 2)
        labels = np.array([0, 127, 255])[np.digitize(clean, [160, 220])]
        write(f"{part}/noisy/{number}", (clean + noise(clean.shape, number))[0])
        write(f"{part}/clean/{number}", clean[0])
        write(f"{part}/large/{number}", large[0])
        write(f"{part}/labels/{number}", labels[0], np.uint8)
    clean = volume((6, 14, 16), 0)
    write("volume/clean", clean)
    for number in range(3):
        write(f"volume/noisy_{number}", clean + noise(clean.shape, number))
