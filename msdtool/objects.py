"""Objects in label images: connected pixels of one label, with their sizes and positions.

Images are read block by block along their first axis, and components that touch at the border of
two blocks are joined, so that a volume need not fit in memory; the result does not depend on that.
"""

import itertools
from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from msdtool.data import ImageStack
from msdtool.data.extras import load_extra
from msdtool.errors import InputError
from msdtool.progress import Progress, no_progress

Labels = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.integer[Any]]
BLOCK_PIXELS = 2**22
"""Read at once; each takes some 50 bytes."""
CONNECTIVITY = {(2, False): 4, (2, True): 8, (3, False): 6, (3, True): 26}
"""Neighbours of a pixel, by number of axes and whether those that share a corner count."""


class Object(NamedTuple):
    """Connected pixels of one label.

    Attributes:
        label: of its pixels.
        pixels: their number.
        position: their mean, in pixels from the first one along each axis.
        first, last: corners of the smallest box around them, in pixels.
    """

    label: int
    pixels: int
    position: tuple[float, ...]
    first: tuple[int, ...]
    last: tuple[int, ...]


class LabelStack(ImageStack):
    """A stack of label images of any labels; of an image with a palette the indices are read."""

    reads_indices = True

    def labels(self, index: int, block_pixels: int = BLOCK_PIXELS) -> Iterator[Labels]:
        """Yield the labels of image ``index`` [rows, ...], as many rows at once as make a block.

        Raises:
            InputError: it cannot be read, has several channels, or values that are no labels.
        """
        space = self.space(index)
        rows = max(1, block_pixels // prod(space[1:]))
        for start in range(0, space[0], rows):
            window = (slice(start, min(start + rows, space[0])), *map(slice, space[1:]))
            image = self.read_array(index, window)
            if len(image) != 1:
                raise InputError(
                    f"{self.name(index)}: has {len(image)} channels; labels are a single one"
                )
            with np.errstate(invalid="ignore"):  # of NaN, which is found to differ
                labels = image[0].astype(np.int64)
            wrong = image[0][labels != image[0]]
            if wrong.size:
                raise InputError(
                    f"{self.name(index)}: has the value {wrong[0]:g}; labels are whole numbers"
                )
            yield labels


def find_objects(
    stack: LabelStack,
    index: int,
    *,
    background: int = 0,
    smallest: int = 1,
    corners: bool = False,
    block_pixels: int = BLOCK_PIXELS,
    progress: Progress = no_progress,
) -> list[Object]:
    """Find the objects of an image, in the order of their first pixels.

    Args:
        stack: of the image.
        index: its number.
        background: the label of pixels that belong to no object.
        smallest: objects of fewer pixels are left out.
        corners: whether pixels that only share an edge or a corner are connected.
        block_pixels: read at once, but at least one row, or slice of a volume.
        progress: told the number of rows, or slices, that were read.

    Raises:
        InputError: the image cannot be read, or has values that are no labels.
    """
    cc3d = load_extra("cc3d", stack.paths[index])
    parts = _Parts(stack.ndim, corners=corners)
    total = stack.space(index)[0]
    for labels in stack.labels(index, block_pixels):
        # What is connected must differ from 0.
        values = np.where(labels == background, 0, labels + (labels >= 0))
        numbers = cc3d.connected_components(
            values, connectivity=CONNECTIVITY[stack.ndim, corners]
        ).reshape(values.shape)
        parts.add(labels, numbers, cc3d.statistics(numbers))
        progress(parts.rows, total, stack.name(index))
    return [found for found in parts.joined() if found.pixels >= smallest]


class _Parts:
    """The parts of objects in the blocks of an image, and which of them are connected."""

    def __init__(self, ndim: int, *, corners: bool) -> None:
        steps = (-1, 0, 1) if corners else (0,)
        self._shifts = list(itertools.product(steps, repeat=ndim - 1))
        self._parts: list[Object] = []
        self._parents: list[int] = []
        self._last: tuple[Labels, Numbers] | None = None
        self.rows = 0

    def add(self, labels: Labels, numbers: Numbers, statistics: dict[str, Any]) -> None:
        """Add a block of which connected pixels have the same number, from 1 on; 0: background."""
        above = len(self._parts)
        numbers = numbers.astype(np.int64)
        count = int(numbers.max())
        label_of = np.zeros(count + 1, np.int64)
        label_of[numbers] = labels
        start = (self.rows,) + (0,) * (labels.ndim - 1)
        for number in range(1, count + 1):
            box = statistics["bounding_boxes"][number]
            position = statistics["centroids"][number]
            self._parts.append(
                Object(
                    int(label_of[number]),
                    int(statistics["voxel_counts"][number]),
                    tuple(float(p) + s for p, s in zip(position, start, strict=True)),
                    tuple(side.start + s for side, s in zip(box, start, strict=True)),
                    tuple(side.stop - 1 + s for side, s in zip(box, start, strict=True)),
                )
            )
        self._parents += range(above, above + count)
        numbers[numbers > 0] += above
        if self._last is not None:
            self._connect(*self._last, labels[0], numbers[0])
        self._last = labels[-1], numbers[-1]
        self.rows += len(labels)

    def _connect(self, labels: Labels, numbers: Numbers, below: Labels, others: Numbers) -> None:
        """Connect the parts in two rows, or slices, one below the other."""
        for shifts in self._shifts:
            here, there = (
                tuple(
                    slice(max(0, sign * shift), size + min(0, sign * shift))
                    for shift, size in zip(shifts, labels.shape, strict=True)
                )
                for sign in (1, -1)
            )
            is_one = (numbers[here] > 0) & (others[there] > 0) & (labels[here] == below[there])
            pairs = np.stack([numbers[here][is_one], others[there][is_one]], axis=1)
            for one, other in np.unique(pairs, axis=0):
                roots = sorted((self._root(int(one) - 1), self._root(int(other) - 1)))
                self._parents[roots[1]] = roots[0]

    def _root(self, part: int) -> int:
        """The first part of an object."""
        while self._parents[part] != part:
            self._parents[part] = self._parents[self._parents[part]]
            part = self._parents[part]
        return part

    def joined(self) -> list[Object]:
        """The objects."""
        objects: dict[int, Object] = {}
        for number, part in enumerate(self._parts):
            root = self._root(number)
            objects[root] = _join(objects[root], part) if root in objects else part
        return list(objects.values())


def _join(one: Object, other: Object) -> Object:
    pixels = one.pixels + other.pixels
    return Object(
        one.label,
        pixels,
        tuple(
            (a * one.pixels + b * other.pixels) / pixels
            for a, b in zip(one.position, other.position, strict=True)
        ),
        tuple(map(min, one.first, other.first)),
        tuple(map(max, one.last, other.last)),
    )
