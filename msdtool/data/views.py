"""Stacks made of other stacks: their images image by image, combined."""

from collections.abc import Sequence

import torch
from torch import Tensor

from msdtool.data.interfaces import Stack
from msdtool.data.pairing import check_sizes
from msdtool.data.patches import Window
from msdtool.errors import InputError


class StackView:
    """Base of stacks whose images are numbered, named and sized like those of another stack.

    Args:
        stack: the other stack.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    def __len__(self) -> int:
        return len(self.stack)

    def space(self, index: int) -> tuple[int, ...]:
        """The size of image ``index`` in pixels, per spatial axis."""
        return self.stack.space(index)

    def name(self, index: int) -> str:
        """Where image ``index`` is, for messages."""
        return self.stack.name(index)

    def volume(self, index: int) -> range:
        """The images that are slices of the same volume as image ``index``."""
        return self.stack.volume(index)

    def surroundings(self, index: int) -> Sequence[int]:
        """All slices of the volume of image ``index``, listed or not; see `Stack.surroundings`."""
        return self.stack.surroundings(index)


class ChannelConcatenation(StackView):
    """The images of several stacks, concatenated along the channels.

    Args:
        stacks: with equal numbers of images, of equal sizes.
    """

    def __init__(self, stacks: Sequence[Stack]) -> None:
        super().__init__(stacks[0])
        self.stacks = list(stacks)

    def read(self, index: int, window: Window | None = None) -> Tensor:
        """Read images ``index`` of all stacks, or a window of them.

        Raises:
            InputError: one cannot be read.
        """
        return torch.cat([stack.read(index, window) for stack in self.stacks])


class MeanStack(StackView):
    """The mean of several stacks, image by image.

    Args:
        stacks: with equal numbers of images.
    """

    def __init__(self, stacks: Sequence[Stack]) -> None:
        super().__init__(stacks[0])
        self.stacks = list(stacks)

    def name(self, index: int) -> str:
        """The image of the first stack."""
        others = len(self.stacks) - 1
        return super().name(index) + (f" (mean with {others} more)" if others else "")

    def surroundings(self, index: int) -> Sequence[int]:
        """All slices of the volume of image ``index``, listed or not; see `Stack.surroundings`.

        Raises:
            InputError: the slices of the stacks are not numbered alike.
        """
        first, *others = (stack.surroundings(index) for stack in self.stacks)
        for stack, other in zip(self.stacks[1:], others, strict=True):
            if list(other) != list(first):
                raise InputError(
                    f"{self.stacks[0].name(index)} and {stack.name(index)} are the same slice of "
                    f"two splits, but there are {len(first)} and {len(other)} slices in their "
                    "folders, or different numbers; complete the folders"
                )
        return first

    def read(self, index: int, window: Window | None = None) -> Tensor:
        """Read images ``index`` of all stacks, or a window of them, and average.

        Raises:
            InputError: one cannot be read, or they differ in size.
        """
        first, *others = self.stacks
        total = first.read(index, window).double()
        for other in others:
            image = other.read(index, window)
            check_sizes(first, total.shape[1:], other, image.shape[1:], "other split", index)
            total += image
        return (total / len(self.stacks)).float()
