"""Results written part by part: whole or not there, and continued where they were left.

While a result is made it lies beside its final place under a hidden name, with a journal that says
how many of its images are done and what it is made of, and the state of an image that is done in
part. A later try with the same origin goes on from there; any other starts anew.
"""

from pathlib import Path

from msdtool.data.sinks.arrays import Hdf5Sink, ZarrSink
from msdtool.data.sinks.base import Result, Sink, images_done, saved_state
from msdtool.data.sinks.flat import FilesSink, NpySink, TiffSink

__all__ = ["SUFFIXES", "Result", "Sink", "images_done", "open_sink", "saved_state"]

SUFFIXES = {"tif": ".tif", "h5": ".h5", "zarr": ".zarr", "npy": ".npy", "files": ""}
"""Formats of results, and how their names end; "files" is a folder with a TIFF per image."""

_SINKS: dict[str, type[Sink]] = {
    "tif": TiffSink,
    "npy": NpySink,
    "h5": Hdf5Sink,
    "zarr": ZarrSink,
    "files": FilesSink,
}


def open_sink(format: str, path: Path, result: Result, *, is_new: bool = True) -> Sink:
    """Begin a result, or go on with one.

    Args:
        format: one of `SUFFIXES`.
        path: of the finished result.
        result: what it will hold.
        is_new: forget what an earlier try left; else `images_done` must have found one.

    Raises:
        Error: the file cannot be written.
        InputError: h5py or zarr is missing.
    """
    return _SINKS[format](path, result, is_new)
