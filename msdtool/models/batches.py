"""Batches for models: any iterable of (input, target) or (input, target, mask)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msdtool.data import Sample
from msdtool.data.moments import Moments
from msdtool.errors import InputError

Batches = Iterable[Sequence[Tensor]]


def length(batches: Batches) -> int:
    """Return the number of batches.

    Raises:
        InputError: there are none.
    """
    length = len(batches)  # type: ignore[arg-type]
    if length == 0:
        raise InputError("the data loader has no batches")
    return length


def samples(batches: Batches) -> Iterator[Sample]:
    """Repeat the batches without end, as the training loop reads them."""
    while True:
        for number, (input, target, *mask) in enumerate(batches):
            yield Sample(input, target, mask[0] if mask else None, torch.tensor([number]))


def measure(batches: Batches, *, with_targets: bool) -> tuple[Moments, Moments]:
    """Return the statistics of the inputs, and of the target pixels that count, per channel.

    Args:
        batches: are read once.
        with_targets: otherwise those of the targets stay empty.

    Raises:
        InputError: there are no batches.
    """
    inputs, targets = Moments(), Moments()
    for input, target, *mask in batches:
        inputs.add(_channels(input))
        if with_targets:
            values = _channels(target)
            targets.add(values[:, _channels(mask[0])[0] != 0] if mask else values)
    if not inputs.count:
        raise InputError("the data loader has no batches")
    return inputs, targets


def _channels(images: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return a batch [B, C, *space] as values per channel [C, N]."""
    return images.transpose(0, 1).flatten(1).numpy().astype(np.float64)
