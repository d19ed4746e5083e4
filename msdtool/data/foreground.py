"""Finding the foreground of targets, so that crops can be drawn around it."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from msdtool.data.interfaces import Pairs, Sample
from msdtool.data.patches import BLOCK_PIXELS, blocks

Points = np.ndarray[Any, np.dtype[np.int32]]

MAX_POINTS = 500
"""Pixels remembered per pair and label."""
MAX_PAIRS = 10_000
"""Pairs remembered; beyond this number, the least recently used ones are searched again."""


class Foreground:
    """Finds foreground pixels, independently of earlier requests.

    Args:
        pairs: the pairs to search.
        seed: with the index of a pair, it determines which pixels are remembered.
        labels: segmentation: the class indices that are foreground, each drawn equally often.
        above: regression: target values above this one are foreground; None: all pixels inside the
            mask.
    """

    def __init__(
        self,
        pairs: Pairs,
        *,
        seed: int,
        labels: Sequence[int] = (),
        above: float | None = None,
    ) -> None:
        self.pairs = pairs
        self.seed = seed
        self.labels = list(labels)
        self.above = above
        self._points: OrderedDict[int, list[Points]] = OrderedDict()

    def draw(self, index: int, rng: np.random.Generator) -> Sequence[int] | None:
        """Draw a pixel of the foreground of pair ``index``; None if it has none.

        Raises:
            InputError: a file cannot be used.
        """
        if index not in self._points:
            self._points[index] = self._find(index)
            if len(self._points) > MAX_PAIRS:
                self._points.popitem(last=False)
        self._points.move_to_end(index)
        kinds = [points for points in self._points[index] if len(points)]
        # The same number of random numbers is drawn whether there is foreground or not.
        kind, point = rng.random(2)
        if not kinds:
            return None
        points = kinds[int(kind * len(kinds))]
        return [int(position) for position in points[int(point * len(points))]]

    def _find(self, index: int) -> list[Points]:
        """Read a pair once; keep a uniform sample of the pixels of each kind of foreground."""
        rng = np.random.default_rng([self.seed, index])
        kept: list[tuple[Points, np.ndarray[Any, np.dtype[np.float64]]]] = []
        for window in blocks(self.pairs.space(index), BLOCK_PIXELS):
            sample = self.pairs.sample(index, window, central_only=True)
            corner = np.array([part.start for part in window])
            for kind, holds in enumerate(self._kinds(sample)):
                points = (np.argwhere(holds) // self.pairs.scale + corner).astype(np.int32)
                # Those with the smallest random keys are a uniform sample over all blocks.
                keys = rng.random(len(points))
                if kind < len(kept):
                    points = np.concatenate([kept[kind][0], points])
                    keys = np.concatenate([kept[kind][1], keys])
                else:
                    kept.append((points, keys))
                smallest = np.argsort(keys)[:MAX_POINTS]
                kept[kind] = (points[smallest], keys[smallest])
        return [points for points, _ in kept]

    def _kinds(self, sample: Sample) -> list[np.ndarray[Any, np.dtype[np.bool_]]]:
        """Where each kind of foreground is, [*space]."""
        if self.labels:
            return [(sample.target[0] == label).numpy() for label in self.labels]
        counted = None if sample.mask is None else sample.mask[0].numpy()
        if self.above is None:
            assert counted is not None
            return [counted]
        bright = (sample.target > self.above).any(dim=0).numpy()
        return [bright if counted is None else bright & counted]
