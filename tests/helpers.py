"""Tiny data sets and experiments, made on the spot."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import yaml

PNG_START = b"\x89PNG\r\n\x1a\n"
LABELS = [0, 127, 255]


def write_image(path: Path, image: Any, axes: str = "CYX") -> None:
    """Write an array [H, W], or one of three axes of these names, as TIFF."""
    image = np.asarray(image)
    names = {"axes": axes} if image.ndim == 3 else {}
    tifffile.imwrite(path, image, photometric="minisblack", metadata=names)


def write_stack(folder: Path, images: Any, axes: str = "ZYX") -> Path:
    """Write images [H, W], or arrays of three axes of these names, as TIFFs called by number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        write_image(folder / f"image_{number:03}.tif", image, axes)
    return folder


def smooth_image(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """A sum of a few waves, mean about 10 and spread about 2: easy to learn, not constant."""
    grid = np.meshgrid(*(np.linspace(0, 2 * np.pi, size) for size in shape), indexing="ij")
    waves = [np.sin(rng.integers(1, 4) * axis + rng.uniform(0, 6)) for axis in grid]
    return 10 + 2 * np.sum(waves, axis=0)


def write_noisy_pairs(
    folder: Path, count: int, shape: tuple[int, ...] = (20, 24), seed: int = 0
) -> dict[str, str]:
    """Write noisy and clean images; return them as a config names them."""
    rng = np.random.default_rng(seed)
    clean = [smooth_image(shape, rng).astype(np.float32) for _ in range(count)]
    noisy = [image + rng.normal(0, 1, shape).astype(np.float32) for image in clean]
    return {
        "input": str(write_stack(folder / "noisy", noisy)),
        "target": str(write_stack(folder / "clean", clean)),
    }


def write_labelled_pairs(
    folder: Path, count: int, shape: tuple[int, ...] = (20, 24), seed: int = 0
) -> dict[str, str]:
    """Write images whose brightness tells the label, and their labels."""
    rng = np.random.default_rng(seed)
    values = [smooth_image(shape, rng) for _ in range(count)]
    labels = [np.digitize(image, [9, 11]) for image in values]
    return {
        "input": str(write_stack(folder / "images", [v.astype(np.float32) for v in values])),
        "target": str(
            write_stack(folder / "labels", [np.array(LABELS, np.uint8)[k] for k in labels])
        ),
    }


def write_experiment(path: Path, sections: dict[str, Any]) -> Path:
    """Write an experiment's YAML on a small network; ``sections`` are laid over the defaults."""
    content: dict[str, Any] = {
        "task": "regression",
        "network": {"depth": 3, "dilations": [1, 2, 3]},
        "training": {"epochs": 2},
        "run": {"directory": "run", "previews": False},
    }
    for name, section in sections.items():
        is_laid_over = isinstance(section, dict) and name in content
        content[name] = {**content[name], **section} if is_laid_over else section
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path
