"""EDF and CBF, as detectors at synchrotrons write them: read frame by frame."""

import weakref

import numpy as np

from msdtool.data.containers.base import Array, Container, Key, key_shape
from msdtool.data.containers.extras import load_extra
from msdtool.specifier_grammar import Location


class DetectorFrames(Container):
    """The frames of a file.

    Raises:
        InputError: fabio is not installed.
    """

    def __init__(self, location: Location) -> None:
        self.file = load_extra("fabio", location.path).open(str(location.path))
        # Also when Python ends: fabio's own closing fails when its modules are gone.
        self._close = weakref.finalize(self, self.file.close)
        first = self.file.data
        self.dtype = first.dtype.newbyteorder("=")
        count = int(self.file.nframes)
        self.shape = (count, *first.shape) if count > 1 else first.shape
        self.axes = "ZYX"[-len(self.shape) :]

    def read(self, key: Key) -> Array:
        """Read a part; each frame that it intersects is decoded."""
        if len(self.shape) == 2:
            part: Array = self.file.data[key]
            return part.astype(self.dtype, copy=False)
        frames, inner = key[0], key[1:]
        if isinstance(frames, int):
            return self._frame(frames)[inner].astype(self.dtype, copy=False)
        out = np.empty(key_shape(key, self.shape), self.dtype)
        for place, number in enumerate(range(self.shape[0])[frames]):
            out[place] = self._frame(number)[inner]
        return out

    def _frame(self, number: int) -> Array:
        frame: Array = self.file.get_frame(number).data
        return frame

    def close(self) -> None:
        """Close the file."""
        self._close()
