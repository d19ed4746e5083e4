"""EDF and CBF, as detectors at synchrotrons write them: read frame by frame."""

import logging
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from msdtool.data.containers.base import Array, Container, Key, key_shape
from msdtool.data.containers.library_log import collected
from msdtool.data.extras import load_extra
from msdtool.errors import InputError
from msdtool.specifier_grammar import Location


class DetectorFrames(Container):
    """The frames of a file.

    Raises:
        InputError: fabio is not installed, or the frames differ in shape or type.
        ValueError: the file is cut short, or its checksum does not fit.
    """

    def __init__(self, location: Location) -> None:
        fabio = load_extra("fabio", location.path)
        with _errors_raised():
            self.file = fabio.open(str(location.path))
        # Also when Python ends: fabio's own closing fails when its modules are gone.
        self._close = weakref.finalize(self, self.file.close)
        try:
            if isinstance(self.file, fabio.edfimage.EdfImage):
                _check_frames(self.file, location.path)
            first = self._frame(0)
        except BaseException:
            self.close()
            raise
        self.dtype = first.dtype.newbyteorder("=")
        count = int(self.file.nframes)
        self.shape = (count, *first.shape) if count > 1 else first.shape
        self.axes = "ZYX"[-len(self.shape) :]

    def read(self, key: Key) -> Array:
        """Read a part; each frame that it intersects is decoded."""
        if len(self.shape) == 2:
            return self._frame(0)[key].astype(self.dtype, copy=False)
        frames, inner = key[0], key[1:]
        if isinstance(frames, int):
            return self._frame(frames)[inner].astype(self.dtype, copy=False)
        out = np.empty(key_shape(key, self.shape), self.dtype)
        for place, number in enumerate(range(self.shape[0])[frames]):
            out[place] = self._frame(number)[inner]
        return out

    def _frame(self, number: int) -> Array:
        with _errors_raised():
            frame: Array = self.file.get_frame(number).data
        return frame

    def close(self) -> None:
        """Close the file."""
        self._close()


@contextmanager
def _errors_raised() -> Iterator[None]:
    """Raise as ValueError what fabio only logs: checksums that do not fit, pixels that miss."""
    with collected("fabio", logging.ERROR) as errors:
        try:
            yield
        except AssertionError:  # of fewer pixels than the header says
            raise ValueError("it is damaged or truncated") from None
    if errors:
        raise ValueError(f"it is damaged: {errors[0]}")


def _check_frames(file: Any, path: Path) -> None:
    """Check from the headers of an EDF that it has all pixels of its frames, and they are alike."""
    frames = [file.get_frame(number) for number in range(file.nframes)]
    for number, frame in enumerate(frames):
        place, start = (Path(frame.bfname), frame.bfstart) if frame.bfname else (path, frame.start)
        found = place.stat().st_size - start
        needed = frame.size if frame._data_compression is None else frame.blobsize
        if found < needed:
            raise ValueError(
                f"it is truncated: frame {number} has {max(found, 0)} bytes in {place.name} "
                f"instead of {needed}"
            )
    if file.incomplete_file and not any(frame.bfname for frame in frames):
        raise ValueError(f"it is truncated after frame {len(frames) - 1}")
    kinds = list(dict.fromkeys((frame.shape, str(frame.dtype)) for frame in frames))
    if len(kinds) > 1:
        shown = " and ".join(f"{dtype} of shape {shape}" for shape, dtype in kinds[:2])
        raise InputError(f"{path}: its frames differ: {shown}; save each kind as a file of its own")
