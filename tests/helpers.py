"""Tiny datasets and experiments, made on the spot."""

import copy
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml

from msdtool.config import ExperimentConfig
from msdtool.config.load import validated
from msdtool.config.yaml_file import YamlFile

PNG_START = b"\x89PNG\r\n\x1a\n"
LABELS = [0, 127, 255]


def parse_config(text: str, name: str = "config") -> ExperimentConfig:
    """Validate a config given as a string; its paths are not changed."""
    file = YamlFile(text, name)
    return validated(file.tree, file, {})


def write_image(path: Path, image: Any, axes: str = "CYX") -> None:
    """Write an array [H, W], or one of three axes of these names, as TIFF."""
    image = np.asarray(image)
    names = {"axes": axes} if image.ndim == 3 else {}
    tifffile.imwrite(path, image, photometric="minisblack", metadata=names)


def write_stack(folder: Path, images: Any, axes: str = "ZYX") -> Path:
    """Write images [H, W], or arrays of three axes of these names, as numbered TIFFs."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        write_image(folder / f"image_{number:03}.tif", image, axes)
    return folder


def smooth_image(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """A sum of a few waves, of mean about 10 and spread about 2: easy to learn, not constant."""
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
    """Write images whose brightness determines the label, and their labels."""
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
    """Write an experiment's YAML on a small network; ``sections`` are merged into the defaults."""
    content: dict[str, Any] = {
        "task": "regression",
        "network": {"depth": 3, "dilations": [1, 2, 3]},
        "training": {"epochs": 2},
        "run": {"directory": "run", "previews": False},
    }
    for name, section in sections.items():
        is_merged = isinstance(section, dict) and name in content
        content[name] = {**content[name], **section} if is_merged else section
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def changed(content: dict[Any, Any], path: Sequence[Any], value: Any) -> dict[Any, Any]:
    """A copy with another value under the keys of path, or without the last one (...)."""
    content = copy.deepcopy(content)
    section = content
    for key in path[:-1]:
        section = section[key]
    if value is ...:
        del section[path[-1]]
    else:
        section[path[-1]] = value
    return content


@contextmanager
def full_disk(limit: int = 4096) -> Iterator[None]:
    """Let no file grow beyond some bytes: the system refuses the write itself, also to root.

    Only around the call: pytest's own output may go to a file that is longer, and Python would cut
    off the byte code of modules that are imported first here.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    byte_code, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sys.dont_write_bytecode = byte_code


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """Mount a file system of its own, of so many bytes, or skip the test where that is refused."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("only root may mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)
