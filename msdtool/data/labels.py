"""Conversion of label values in a file to class indices and back."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from msdtool.errors import InputError

IGNORED = -100
"""Class index of pixels that do not count; PyTorch's losses ignore it by default."""


class LabelMap:
    """The label values of a segmentation, in the order of the network's output channels.

    Args:
        labels: k for the values 0 to k-1, or the list of values.
        ignore: value of pixels that do not count, or None.
    """

    def __init__(self, labels: int | Sequence[int], ignore: int | None = None) -> None:
        self.values = list(range(labels)) if isinstance(labels, int) else list(labels)
        self.ignore = ignore
        known = self.values if ignore is None else [*self.values, ignore]
        indices = [*range(len(self.values)), IGNORED][: len(known)]
        order = np.argsort(known, kind="stable")
        self._known = np.asarray(known, dtype=np.int64)[order]
        self._indices = np.asarray(indices, dtype=np.int64)[order]

    def to_indices(
        self, image: np.ndarray[Any, np.dtype[Any]], name: str
    ) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Map label values [C, *space] to class indices [1, *space].

        Colour images are accepted when their channels agree.

        Raises:
            InputError: a pixel has a value that is not a label.
        """
        if image.shape[0] > 1 and not (image == image[:1]).all():
            raise InputError(
                f"{name}: a label image needs one channel, this one has {image.shape[0]} "
                "that differ; save it with one channel, or as a PNG with a palette"
            )
        image = image[:1]
        with np.errstate(invalid="ignore"):
            values = image.astype(np.int64)  # whatever integer NaN becomes, it differs from NaN
        slot = np.clip(np.searchsorted(self._known, values), 0, len(self._known) - 1)
        unknown = (self._known[slot] != values) | (values != image)
        if unknown.any():
            found = np.unique(image[unknown])
            raise InputError(
                f"{name}: found the value{'s' if found.size > 1 else ''} "
                f"{', '.join(f'{float(value):g}' for value in found[:8])}"
                f"{' ...' if found.size > 8 else ''} ({unknown.sum()} pixels); "
                f"data.labels allows {_short_list(self.values)}"
                + (f" and data.ignore {self.ignore}" if self.ignore is not None else "")
                + ". List every value in data.labels, or name one to skip in data.ignore"
            )
        return self._indices[slot]

    def to_values(
        self, indices: np.ndarray[Any, np.dtype[np.int64]]
    ) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Map class indices back to label values."""
        return np.asarray(self.values, dtype=np.int64)[indices]


def _short_list(values: Sequence[int]) -> str:
    if len(values) > 8 and list(values) == list(range(len(values))):
        return f"0 to {len(values) - 1}"
    return ", ".join(map(str, values))
