"""What a layer with several outputs returns."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor


class Output:
    """The outputs of a layer, by number and by name: ``o[0]``, ``o["output"]``, ``o.output``.

    Args:
        outs: the outputs.
        keys: their names; None: they have none.

    Raises:
        ValueError: there are not as many names as outputs.
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
        """Return an output by number or name.

        Raises:
            IndexError: there is none.
        """
        if isinstance(key, int):
            return self._outs[key]
        if key not in self.keys:
            raise IndexError(f"Key not found: {key!r}; there are: {', '.join(self.keys) or 'none'}")
        return self._outs[self.keys.index(key)]

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_") or name not in self.keys:
            raise AttributeError(f"the output has no {name!r}")
        return self[name]

    def array(self, k: int | str = 0) -> np.ndarray[Any, np.dtype[Any]]:
        """Output ``k`` as a NumPy array."""
        return self[k].detach().cpu().numpy()

    def mean(self, axis: int | tuple[int, ...] | None = None, k: int | str = 0) -> Any:
        """Mean of output ``k`` along NumPy axes, by default of all its values."""
        return self.array(k).mean(axis)


def as_output(result: Any) -> Output:
    """What a layer returned, as an `Output`."""
    return result if isinstance(result, Output) else Output([result], keys=["output"])
