"""Pairs whose images are scaled by levels of their own."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from msdtool.data.interfaces import Pairs, Sample
from msdtool.data.levels import measure_levels
from msdtool.data.pairing import check_finite
from msdtool.data.pairs_view import PairsView
from msdtool.data.patches import BLOCK_PIXELS, Window, blocks
from msdtool.errors import InputError
from msdtool.scaling import Scaling


class PairsWithLevels(PairsView):
    """Pairs whose samples hold the levels of the whole input that they are taken from.

    Args:
        pairs: the pairs.
        scaling: what the levels are.
        with_target: targets are scaled like their inputs.
    """

    def __init__(self, pairs: Pairs, scaling: Scaling, *, with_target: bool) -> None:
        super().__init__(pairs)
        self.scaling, self.with_target = scaling, with_target
        self.known: dict[int, Tensor] = {}

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


def with_levels(pairs: Any) -> PairsWithLevels | None:
    """The pairs with levels that other pairs are made of, if there are any."""
    while pairs is not None and not isinstance(pairs, PairsWithLevels):
        pairs = getattr(pairs, "pairs", None)
    return pairs
