"""Pairs whose images are scaled by levels of their own."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from msdtool.data.interfaces import Pairs, Sample
from msdtool.data.levels import measure_levels
from msdtool.data.pairing import as_tuple, check_finite
from msdtool.data.patches import BLOCK_PIXELS, Window, blocks
from msdtool.data.stacks import ImageStack
from msdtool.errors import InputError
from msdtool.scaling import Scaling


class PairsWithLevels(Dataset[tuple[Tensor, ...]]):
    """Pairs whose samples hold the levels of the whole input that they are taken from.

    Args:
        pairs: the pairs.
        scaling: what the levels are.
        with_target: targets are scaled like their inputs.
    """

    def __init__(self, pairs: Pairs, scaling: Scaling, *, with_target: bool) -> None:
        self.pairs, self.scaling, self.with_target = pairs, scaling, with_target
        self.slab, self.scale = pairs.slab, pairs.scale
        self.known: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return as_tuple(self.sample(range(len(self))[index]))

    def levels(self, index: int) -> Tensor:
        """Return the levels [2, C] of the input of pair ``index``, of the central slice of a slab.

        Raises:
            InputError: a file cannot be used, or the image has no contrast.
        """
        if index not in self.known:
            channels = len(self.pairs.sample(index, self._corner(index), central_only=True).input)
            self.known[index] = measure_levels(
                self.scaling, lambda: self._blocks(index), channels, self.name(index)
            )
        return self.known[index]

    def _corner(self, index: int) -> Window:
        """One pixel, which has all channels."""
        return tuple(slice(0, 1) for _ in self.space(index))

    def _blocks(self, index: int) -> Iterator[Tensor]:
        for window in blocks(self.space(index), BLOCK_PIXELS):
            input = self.pairs.sample(index, window, central_only=True).input
            check_finite(input, self.name(index), "replace them")
            yield input

    def sample(
        self, index: int, window: Window | None = None, *, central_only: bool = False
    ) -> Sample:
        """Read pair ``index`` with the levels of all of it; see `Pairs.sample`.

        Raises:
            InputError: a file cannot be used, the image has no contrast, or the target has other
                channels than the input whose levels it has.
        """
        sample = self.pairs.sample(index, window, central_only=central_only)
        levels = self.levels(index)
        if not self.with_target:
            return sample._replace(levels=levels)
        if len(sample.target) != levels.shape[1]:
            raise InputError(
                f"{self.target_name(index)} has {len(sample.target)} channels, its input "
                f"{self.name(index)} has {levels.shape[1]}, so its statistics cannot scale the "
                "target; set data.normalisation.target: dataset"
            )
        return sample._replace(levels=levels, target_levels=levels)

    def space(self, index: int) -> tuple[int, ...]:
        """The size of the input of pair ``index`` in pixels, per spatial axis."""
        return self.pairs.space(index)

    def name(self, index: int) -> str:
        """Where the input of pair ``index`` is."""
        return self.pairs.name(index)

    def target_name(self, index: int) -> str:
        """Where the target of pair ``index`` is."""
        return self.pairs.target_name(index)

    def image(self, index: int) -> int:
        """The image of the `stacks` that pair ``index`` shows."""
        return self.pairs.image(index)

    def stacks(self) -> Mapping[str, ImageStack]:
        """The stacks that the pairs are made of."""
        return self.pairs.stacks()

    def to_measure(self) -> Sequence[int]:
        """The pairs that are measured."""
        return self.pairs.to_measure()


def with_levels(pairs: Any) -> PairsWithLevels | None:
    """The pairs with levels that other pairs are made of, if there are any."""
    while pairs is not None and not isinstance(pairs, PairsWithLevels):
        pairs = getattr(pairs, "pairs", None)
    return pairs
