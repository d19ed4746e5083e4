"""What semifields that are summed term by term have in common."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from msdtool.nn.semifield.conv import FixedSemifieldConv, SemifieldConv
from msdtool.ops.semifield import check_elementwise


class TermByTerm:
    """Makes convolutions; two semifields of the same ``cache_name`` are equal.

    Mixed into named tuples, because the original's semifields are such: they can be unpacked,
    indexed and copied with ``_replace``. The comparisons below take the place of the tuple's.
    """

    convolve: Callable[..., Tensor]
    cache_name: Any  # a field of the named tuple

    def dynamic(
        self,
        thread_block_size: int | None = None,
        to_extension: bool = False,
        debug: bool = False,
        kernel_inflation: int = 16,
    ) -> nn.Module:
        """Make a convolution for `GenericConv`, for images of any size.

        `torch.compile` breaks its graph at this convolution; those of `BroadcastSemifield` become
        part of the graph.

        Args:
            thread_block_size, to_extension, debug, kernel_inflation: accepted for programs written
                for pytorch_nd_semiconv, whose compiler they tune; they have no effect here.

        Raises:
            ValueError: a function is missing or does not work elementwise on tensors.
        """
        del thread_block_size, to_extension, debug, kernel_inflation
        return SemifieldConv(self._compute(), self._label())

    def lazy_fixed(
        self,
        thread_block_size: int | None = None,
        to_extension: bool = False,
        debug: bool = False,
        kernel_inflation: int = 16,
    ) -> nn.Module:
        """Make a convolution whose sizes are fixed by its first call, but for the batch.

        It computes what `dynamic` does, and refuses calls with other sizes or arguments.

        Args: as for `dynamic`.

        Raises:
            ValueError: a function is missing or does not work elementwise on tensors.
        """
        del thread_block_size, to_extension, debug, kernel_inflation
        return FixedSemifieldConv(self._compute(), self._label())

    def _compute(self) -> Callable[..., Tensor]:
        check_elementwise(self)  # type: ignore[arg-type]
        return partial(self.convolve, semifield=self)

    def _label(self) -> str:
        return f"{type(self).__name__} {self.cache_name or ''}".strip()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return False
        if self.cache_name is not None:
            return bool(self.cache_name == other.cache_name)
        return self is other

    def __ne__(self, other: object) -> bool:  # the tuple's own compares the fields
        return not self == other

    def __hash__(self) -> int:
        return id(self) if self.cache_name is None else hash(self.cache_name)
