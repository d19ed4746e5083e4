"""The outputs of a layer that returns several."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor


class Output:
    """The outputs of a layer, by index and by name: ``o[0]``, ``o["output"]``, ``o.output``.

    Args:
        outs: the outputs.
        keys: their names; None for unnamed outputs.

    Raises:
        ValueError: the numbers of names and outputs differ.
    """

    def __init__(self, outs: Sequence[Tensor], keys: Sequence[str] | None = None) -> None:
        self._outs = list(outs)
        self.keys = list(keys or [])
        if self.keys and len(self.keys) != len(self._outs):
            raise ValueError(f"got {len(self.keys)} names for {len(self._outs)} outputs")

    def __len__(self) -> int:
        return len(self._outs)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._outs)

    def __getitem__(self, key: int | str) -> Tensor:
        """Return an output by index or name.

        Raises:
            IndexError: there is no such output.
        """
        if isinstance(key, int):
            return self._outs[key]
        if key not in self.keys:
            raise IndexError(f"Key not found: {key!r}; allowed: {', '.join(self.keys) or 'none'}")
        return self._outs[self.keys.index(key)]

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_") or name not in self.keys:
            raise AttributeError(f"the output has no {name!r}")
        return self[name]

    def array(self, k: int | str = 0) -> np.ndarray[Any, np.dtype[Any]]:
        """Return output ``k`` as a NumPy array."""
        return self[k].detach().cpu().numpy()

    def mean(self, axis: int | tuple[int, ...] | None = None, k: int | str = 0) -> Any:
        """Return the mean of output ``k`` along NumPy axes, by default over all values."""
        return self.array(k).mean(axis)


def as_output(result: Any) -> Output:
    """Wrap the result of a layer in an `Output`, unless it is one."""
    return result if isinstance(result, Output) else Output([result], keys=["output"])
