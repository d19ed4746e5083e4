"""The levels by which a network's inputs are scaled where each image has its own."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from msdtool.data.interfaces import Stack
from msdtool.data.levels import measure_levels, scaled, unscaled
from msdtool.data.pairing import check_finite
from msdtool.data.patches import BLOCK_PIXELS, blocks
from msdtool.data.slabs import central_slice
from msdtool.runs.model import Model


def of_image(model: Model, image: Tensor, name: str) -> Tensor | None:
    """Return the levels [n, 2, C] of the inputs in an image [n * c_in, *space].

    Args:
        model: of the network.
        image: all of it, for one input, or those of n splits.
        name: what errors call it.

    Returns:
        None if all images are scaled alike.

    Raises:
        InputError: it has no contrast.
    """
    if not model.scaling.is_per_image:
        return None
    windows = list(blocks(image.shape[1:], BLOCK_PIXELS))
    return _levels(
        model, lambda: (image[(slice(None), *window)] for window in windows), len(image), name
    )


def of_stack(model: Model, stack: Stack, index: int) -> Tensor | None:
    """Return the levels of an image of a stack, which need not fit in memory; see `of_image`.

    Raises:
        InputError: it cannot be read, is not finite, or has no contrast.
    """
    if not model.scaling.is_per_image:
        return None
    space, name = stack.space(index), stack.name(index)

    def read() -> Iterator[Tensor]:
        for window in blocks(space, BLOCK_PIXELS):
            block = stack.read(index, window)
            check_finite(block, name, "replace them")
            yield block

    channels = len(stack.read(index, tuple(slice(0, 1) for _ in space)))
    return _levels(model, read, channels, name)


def _levels(model: Model, read: Callable[[], Iterable[Tensor]], channels: int, name: str) -> Tensor:
    c_in, slab = model.architecture.c_in, model.slab

    def of_input(first: int) -> Tensor:
        def slices() -> Iterator[Tensor]:
            return (central_slice(block[first : first + c_in], slab) for block in read())

        return measure_levels(model.scaling, slices, c_in // (2 * slab + 1), name)

    return torch.stack([of_input(first) for first in range(0, channels, c_in)])


def scaled_in(image: Tensor, levels: Tensor | None) -> Tensor:
    """Scale an input [c_in, *space] by its levels [2, C], if it has any."""
    return image if levels is None else scaled(image, levels)


def scaled_out(model: Model, output: Tensor, levels: Tensor | None) -> Tensor:
    """Scale a network's output [C, *space] back by the levels of its input, if it shares them."""
    levels = output_levels(model, levels)
    return output if levels is None else unscaled(output, levels)


def output_levels(model: Model, levels: Tensor | None) -> Tensor | None:
    """The levels of outputs, of those of the input; None: they are in the data's units."""
    shared = model.task == "regression" and model.scaling.target == "input"
    return levels if shared else None
