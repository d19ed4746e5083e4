"""2.5D: the neighbours of a slice as additional input channels.

A slab of reach k is a slice with the k slices above and the k slices below it, as in the reference
implementation of the method (Pelt, Batenburg & Sethian, J. Imaging 4(11):128, 2018).
"""

import logging

import torch
from torch import Tensor

from msdtool.data.interfaces import Stack
from msdtool.data.patches import Window
from msdtool.data.views import StackView
from msdtool.errors import InputError

log = logging.getLogger(__name__)


class SlabStack(StackView):
    """Each image of a stack with its neighbours in the same volume, as channels.

    The channels of the topmost slice come first: [(2 * reach + 1) * C, *space]. The volume is
    reflected at its first and last slice: slice -1 is slice 1. Neighbours need not be in the stack.

    Args:
        stack: the slices; its `Stack.surroundings` say which slices form a volume.
        reach: number of slices above, and below, the central one.

    Raises:
        InputError: a folder of slices cannot be read.
    """

    def __init__(self, stack: Stack, reach: int) -> None:
        super().__init__(stack)
        self.reach = reach
        # Looking at them warns of gaps.
        sizes = [len(stack.surroundings(index)) for index in range(len(stack))]
        if sizes and min(sizes) < self.thickness:
            name, size = stack.name(sizes.index(min(sizes))), min(sizes)
            log.warning(
                f"{name}: is in a volume of {size} slice{'s' * (size > 1)}, fewer than the "
                f"{self.thickness} of a slab: some are used more than once, and results are worse. "
                "Name slices where their neighbours lie"
            )

    @property
    def thickness(self) -> int:
        """Number of slices in a slab."""
        return 2 * self.reach + 1

    def read(self, index: int, window: Window | None = None) -> Tensor:
        """Read a slab, or a window of all its slices.

        Raises:
            InputError: an image cannot be read, or the slices differ in size or channels.
        """
        volume = self.stack.surroundings(index)
        place = volume.index(index)
        centre = self.stack.read(index, window)
        slices = []
        for step in range(-self.reach, self.reach + 1):
            neighbour = volume[reflected(place + step, len(volume))]
            image = centre if neighbour == index else self.stack.read(neighbour, window)
            if image.shape != centre.shape:
                raise InputError(
                    f"{self.stack.name(index)} and {self.stack.name(neighbour)} cannot be in one "
                    f"slab: their shapes are {tuple(centre.shape)} and {tuple(image.shape)}; "
                    "set data.slab: 0, or keep each volume in its own folder or file"
                )
            slices.append(image)
        return torch.cat(slices)


def slices_of(input: Tensor, reach: int) -> Tensor:
    """The slices [2 * reach + 1, C, *space] of a slab [(2 * reach + 1) * C, *space]."""
    return input.unflatten(0, (2 * reach + 1, -1))


def central_slice(input: Tensor, reach: int) -> Tensor:
    """The central slice [C, *space] of a slab."""
    return slices_of(input, reach)[reach]


def reflected(position: int, length: int) -> int:
    """Map any position to one in [0, length) by reflection that does not repeat the edge."""
    if length == 1:
        return 0
    position %= 2 * (length - 1)
    return min(position, 2 * (length - 1) - position)
