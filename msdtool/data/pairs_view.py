"""Pairs made of other pairs, whose samples they change."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.utils.data import Dataset

from msdtool.data.interfaces import Pairs, Sample
from msdtool.data.pairing import as_tuple
from msdtool.data.patches import Window
from msdtool.data.stacks import ImageStack


class PairsView(Dataset[tuple[Tensor, ...]]):
    """Base of pairs that are numbered, named and sized like others.

    Args:
        pairs: the others.
    """

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self.slab, self.scale = pairs.slab, pairs.scale

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return as_tuple(self.sample(range(len(self))[index]))

    @abstractmethod
    def sample(
        self, index: int, window: Window | None = None, *, central_only: bool = False
    ) -> Sample:
        """Read pair ``index``, or a window of it; see `Pairs.sample`."""

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
