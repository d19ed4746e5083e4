"""Results written piece by piece: complete or absent, and resumed where they were left.

See `msdtool.data.sinks.journal` for how. A later try of the same origin resumes the result; any
other starts from scratch.
"""

from pathlib import Path
from typing import Any

import numpy as np

from msdtool.data.sinks.base import Sink
from msdtool.data.sinks.flat import FilesSink, Hdf5Sink, MrcSink, NiftiSink, NpySink, TiffSink
from msdtool.data.sinks.journal import Journal, Past, claim, tidy
from msdtool.data.sinks.png import PngSink
from msdtool.data.sinks.result import Result
from msdtool.data.sinks.zarr import OmeZarrSink, ZarrSink, is_ome

__all__ = [
    "ALL_SUFFIXES",
    "COMPRESSIONS",
    "SUFFIXES",
    "Journal",
    "Past",
    "Result",
    "Sink",
    "claim",
    "is_folder",
    "open_sink",
    "stored_type",
    "tidy",
]

SUFFIXES = {
    "tif": ".tif",
    "h5": ".h5",
    "zarr": ".zarr",
    "npy": ".npy",
    "mrc": ".mrc",
    "nii": ".nii",
    "files": "",
}
"""Suffixes of the formats of any result; "files" is a folder with one TIFF per image."""
ALL_SUFFIXES = {**SUFFIXES, "png": ".png"}
"""Suffixes of all formats of results; `msdtool.data.sinks.png.refusal` says what a PNG holds."""

COMPRESSIONS = {
    "tif": ("none", "deflate", "lzw", "zstd"),
    "files": ("none", "deflate", "lzw", "zstd"),
    "h5": ("none", "deflate", "zstd", "blosc"),
    "zarr": ("none", "deflate", "zstd", "blosc"),
    "npy": ("none",),
    "mrc": ("none",),
    "nii": ("none",),
    "png": ("deflate",),
}
"""How results of each format can be compressed, without loss."""

_SINKS: dict[str, type[Sink]] = {
    "tif": TiffSink,
    "npy": NpySink,
    "h5": Hdf5Sink,
    "mrc": MrcSink,
    "nii": NiftiSink,
    "zarr": ZarrSink,
    "files": FilesSink,
    "png": PngSink,
}


def stored_type(format: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type by which a format holds pixels of a type, without loss."""
    return np.dtype(np.uint16) if format == "mrc" and dtype == np.uint8 else dtype


def is_folder(format: str) -> bool:
    """Whether a result of a format, one of `ALL_SUFFIXES`, is a folder."""
    return _SINKS[format].is_folder


def open_sink(format: str, path: Path, result: Result, *, is_new: bool = True) -> Sink:
    """Begin a result, or continue one.

    Args:
        format: one of `ALL_SUFFIXES`.
        path: of the complete result.
        result: what it will hold.
        is_new: start from scratch; otherwise `Journal.past` must have found an earlier try.

    Raises:
        Error: the file cannot be written.
        InputError: h5py or zarr is missing, or the format has no such pixels.
    """
    kind = OmeZarrSink if format == "zarr" and is_ome(path, result) else _SINKS[format]
    return kind(path, result, is_new)
