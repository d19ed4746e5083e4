"""Subsets of pairs, and parts of pairs."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from msdtool.data.interfaces import Pairs, Sample
from msdtool.data.pairing import as_tuple, masked
from msdtool.data.patches import Window, extent, inside, whole
from msdtool.data.stacks import ImageStack


class Part(NamedTuple):
    """A pair, or a window of one.

    Attributes:
        pair: the index of the pair.
        window: in the pair's coordinates; None: all of it.
        core: the pixels that count, in the window's coordinates; None: all of them.
    """

    pair: int
    window: Window | None = None
    core: Window | None = None


class SubsetOf(Dataset[tuple[Tensor, ...]]):
    """Some of other pairs, or windows of them, in a given order.

    Args:
        pairs: what to choose from.
        chosen: indices of pairs, or parts.
    """

    def __init__(self, pairs: Pairs, chosen: Sequence[int | Part]) -> None:
        parts = [Part(item) if isinstance(item, int) else item for item in chosen]
        if isinstance(pairs, SubsetOf):
            # Parts of parts are parts of the whole; a patch, which has a core, is not divided.
            parts = [pairs.part_of(part) for part in parts]
            pairs = pairs.pairs
        self.pairs: Pairs = pairs
        self.parts = parts
        self.slab = pairs.slab

    @property
    def scale(self) -> int:
        """Size of the targets relative to the inputs, along each spatial axis."""
        return self.pairs.scale

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return as_tuple(self.sample(index))

    def part_of(self, part: Part) -> Part:
        """A part of one of these parts, as a part of the underlying pair."""
        outer = self.parts[part.pair]
        if outer.window is None or part.window is None:
            return part._replace(pair=outer.pair, window=part.window or outer.window)
        return part._replace(pair=outer.pair, window=inside(outer.window, part.window))

    def space(self, index: int) -> tuple[int, ...]:
        """The size of part ``index`` in pixels, per spatial axis."""
        window = self.parts[index].window
        return self.pairs.space(self.parts[index].pair) if window is None else extent(window)

    def sample(
        self, index: int, window: Window | None = None, *, central_only: bool = False
    ) -> Sample:
        """Read part ``index``, which is also its `Sample.indices`; see `Pairs.sample`."""
        part = self.parts[index]
        within = window
        if part.window is not None:
            within = part.window if window is None else inside(part.window, window)
        sample = self.pairs.sample(part.pair, within, central_only=central_only)
        if part.core is not None:
            counted = torch.zeros(1, *self.space(index), dtype=torch.bool)
            counted[(slice(None), *part.core)] = True
            counted = counted[(slice(None), *(window or whole(self.space(index))))]
            for axis in range(1, counted.dim()):
                counted = counted.repeat_interleave(self.scale, axis)
            sample = masked(sample, counted)
        return sample._replace(indices=torch.tensor(index))

    def name(self, index: int) -> str:
        """The input file of part ``index``, and which pixels of it, counted from 0."""
        return self.pairs.name(self.parts[index].pair) + self._place(index)

    def target_name(self, index: int) -> str:
        """The target file of part ``index``, and which pixels of it, counted from 0."""
        return self.pairs.target_name(self.parts[index].pair) + self._place(index)

    def _place(self, index: int) -> str:
        window = self.parts[index].window
        if window is None:
            return ""
        return f"[{', '.join(f'{part.start}:{part.stop}' for part in window)}]"

    def image(self, index: int) -> int:
        """The image of the `stacks` that part ``index`` shows."""
        return self.pairs.image(self.parts[index].pair)

    def stacks(self) -> Mapping[str, ImageStack]:
        """The stacks that the pairs are made of."""
        return self.pairs.stacks()

    def to_measure(self) -> Sequence[int]:
        """The parts of the pairs that are measured."""
        measured = set(self.pairs.to_measure())
        return [k for k, part in enumerate(self.parts) if part.pair in measured]
