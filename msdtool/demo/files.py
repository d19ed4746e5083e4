"""What all data sets write."""

from pathlib import Path

from msdtool.atomic import atomic_path


def write_config(path: Path, text: str) -> Path:
    """Write a config to train on a data set; return its path."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
