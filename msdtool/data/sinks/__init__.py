"""Results written piece by piece: complete or absent, and resumed where they were left.

See `msdtool.data.sinks.journal` for how. A later try of the same origin resumes the result; any
other starts from scratch.
"""

from pathlib import Path

from msdtool.data.sinks.base import Sink
from msdtool.data.sinks.flat import FilesSink, Hdf5Sink, NpySink, TiffSink
from msdtool.data.sinks.journal import Journal, Past, claim, tidy
from msdtool.data.sinks.result import Result
from msdtool.data.sinks.zarr import ZarrSink

__all__ = [
    "SUFFIXES",
    "Journal",
    "Past",
    "Result",
    "Sink",
    "claim",
    "is_folder",
    "open_sink",
    "tidy",
]

SUFFIXES = {"tif": ".tif", "h5": ".h5", "zarr": ".zarr", "npy": ".npy", "files": ""}
"""Suffixes of the formats of results; "files" is a folder with one TIFF per image."""

_SINKS: dict[str, type[Sink]] = {
    "tif": TiffSink,
    "npy": NpySink,
    "h5": Hdf5Sink,
    "zarr": ZarrSink,
    "files": FilesSink,
}


def is_folder(format: str) -> bool:
    """Whether a result of a format, one of `SUFFIXES`, is a folder."""
    return _SINKS[format].is_folder


def open_sink(format: str, path: Path, result: Result, *, is_new: bool = True) -> Sink:
    """Begin a result, or continue one.

    Args:
        format: one of `SUFFIXES`.
        path: of the complete result.
        result: what it will hold.
        is_new: start from scratch; otherwise `Journal.past` must have found an earlier try.

    Raises:
        Error: the file cannot be written.
        InputError: h5py or zarr is missing.
    """
    return _SINKS[format](path, result, is_new)
