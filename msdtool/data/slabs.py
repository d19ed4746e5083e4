"""2.5D: the neighbours of a slice as further input channels.

A slab of reach k is a slice with the k slices above and the k below it, as in the reference
implementation of the method (Pelt, Batenburg & Sethian, J. Imaging 4(11):128, 2018).
"""

import torch
from torch import Tensor

from msdtool.data.interfaces import Stack
from msdtool.data.patches import Window
from msdtool.errors import InputError


class SlabStack:
    """Each image of a stack with its neighbours in the same volume, as channels.

    Channels go slice by slice, the topmost slice first: [(2 * reach + 1) * C, *space]. Beyond the
    first and the last slice the volume is reflected: slice -1 is slice 1.

    Args:
        stack: the slices; its `Stack.volume` tells which of them are one volume.
        reach: how many slices to take above, and how many below.
    """

    def __init__(self, stack: Stack, reach: int) -> None:
        self.stack = stack
        self.reach = reach

    def __len__(self) -> int:
        return len(self.stack)

    @property
    def thickness(self) -> int:
        """Slices in a slab."""
        return 2 * self.reach + 1

    def space(self, index: int) -> tuple[int, ...]:
        """The size of image ``index``."""
        return self.stack.space(index)

    def name(self, index: int) -> str:
        """The central slice."""
        return self.stack.name(index)

    def volume(self, index: int) -> range:
        """The images of the volume that image ``index`` belongs to."""
        return self.stack.volume(index)

    def read(self, index: int, window: Window | None = None) -> Tensor:
        """Read a slab, or a window of all its slices.

        Raises:
            InputError: an image cannot be read, or the slices differ in size or channels.
        """
        volume = self.stack.volume(index)
        centre = self.stack.read(index, window)
        slices = []
        for step in range(-self.reach, self.reach + 1):
            neighbour = volume[reflected(index - volume.start + step, len(volume))]
            image = centre if neighbour == index else self.stack.read(neighbour, window)
            if image.shape != centre.shape:
                raise InputError(
                    f"{self.stack.name(index)} and {self.stack.name(neighbour)} cannot be in one "
                    f"slab: their shapes are {tuple(centre.shape)} and {tuple(image.shape)}; "
                    "set data.slab: 0, or keep each volume in a folder or file of its own"
                )
            slices.append(image)
        return torch.cat(slices)


def slices_of(input: Tensor, reach: int) -> Tensor:
    """The slices [2 * reach + 1, C, *space] of a slab [(2 * reach + 1) * C, *space]."""
    return input.unflatten(0, (2 * reach + 1, -1))


def central_slice(input: Tensor, reach: int) -> Tensor:
    """The slice [C, *space] that a slab is about."""
    return slices_of(input, reach)[reach]


def reflected(position: int, length: int) -> int:
    """Map any position to one in [0, length) by reflection that does not repeat the edge."""
    if length == 1:
        return 0
    position %= 2 * (length - 1)
    return min(position, 2 * (length - 1) - position)
