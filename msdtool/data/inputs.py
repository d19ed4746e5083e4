"""What a trained network gets to work on, made the way its training inputs were."""

from collections.abc import Sequence

import torch
from torch import Tensor

from msdtool.data.datasets import check_counts, first_scale, read_pair
from msdtool.data.interfaces import Sample, Stack
from msdtool.data.patches import Window
from msdtool.data.slabs import SlabStack
from msdtool.data.specifiers import Specifier
from msdtool.data.splits import MeanStack, split_inputs
from msdtool.data.stacks import ImageStack
from msdtool.errors import InputError


class Together:
    """The images of several stacks as channels, one after the other.

    Args:
        stacks: equally many images each, of one size.
    """

    def __init__(self, stacks: Sequence[Stack]) -> None:
        self.stacks = list(stacks)

    def __len__(self) -> int:
        return len(self.stacks[0])

    def space(self, index: int) -> tuple[int, ...]:
        """The size of image ``index``."""
        return self.stacks[0].space(index)

    def name(self, index: int) -> str:
        """The image of the first stack."""
        return self.stacks[0].name(index)

    def volume(self, index: int) -> range:
        """The images of the volume that image ``index`` belongs to."""
        return self.stacks[0].volume(index)

    def read(self, index: int, window: Window | None = None) -> Tensor:
        """Read the images ``index`` of all stacks, or a window of them.

        Raises:
            InputError: one cannot be read.
        """
        return torch.cat([stack.read(index, window) for stack in self.stacks])


def open_inputs(
    specifiers: Sequence[Specifier],
    *,
    splits: int = 0,
    strategy: str = "X:1",
    slab: int = 0,
    collapse_channels: bool = False,
    ndim: int = 2,
) -> tuple[Stack, list[ImageStack]]:
    """Open the inputs of a network.

    A network that was trained on K splits takes the K splits of other scans, for each of which it
    gets an input, K of them one after the other in the channels; the mean of its K outputs is the
    result (Noise2Inverse). It also takes a single reconstruction as it is.

    Args:
        specifiers: of the images; of each split, if there are K of them.
        splits, strategy, slab, collapse_channels, ndim: see `msdtool.runs.checkpoint.Model`.

    Returns:
        The inputs, and the stacks of files that they are read from.

    Raises:
        InputError: there are no files, or another number of splits.
    """
    stacks = [
        ImageStack(specifier, collapse_channels=collapse_channels, ndim=ndim)
        for specifier in specifiers
    ]
    if len(stacks) == 1:
        return (SlabStack(stacks[0], slab) if slab else stacks[0]), stacks
    if len(stacks) != splits:
        raise InputError(
            f"the network was trained on {splits} splits: give one specifier for each, or a single "
            f"one for reconstructions as they are; got {len(stacks)}. Put quotes around patterns"
        )
    for number, stack in enumerate(stacks[1:], 2):
        check_counts(stacks[0], "split 1", stack, f"split {number}")
    return Together(split_inputs(stacks, strategy, slab)), stacks


class MeasuredPairs:
    """The inputs of a trained network with the targets that its outputs are measured by.

    Args:
        inputs, files: see `open_inputs`.
        targets: an image for each input.
        masks: not 0 where the target counts.
        slab: slices above, and below, the central one of each input.

    Raises:
        InputError: the numbers of images differ.
    """

    def __init__(
        self,
        inputs: Stack,
        files: Sequence[ImageStack],
        targets: ImageStack,
        masks: ImageStack | None = None,
        slab: int = 0,
    ) -> None:
        self.inputs = inputs
        self.targets = targets
        self.masks = masks
        self.slab = slab
        self.scale = first_scale(inputs, targets)
        self._central_inputs = MeanStack(files)
        for kind, stack in (("target", targets), ("mask", masks)):
            if stack is not None:
                check_counts(files[0], "input", stack, kind)

    def __len__(self) -> int:
        return len(self.targets)

    def sample(
        self, index: int, window: Window | None = None, *, central_only: bool = False
    ) -> Sample:
        """Read pair ``index``, or a window of it.

        Args:
            index: which pair.
            window: in the pair's coordinates.
            central_only: as the input, give the image that the target is to be compared with: the
                central slice of a slab, the mean of splits.

        Raises:
            InputError: a file cannot be read, or the images of the pair differ in size.
        """
        inputs: Stack = self._central_inputs if central_only else self.inputs
        return read_pair(inputs, self.targets, self.masks, index, window, self.scale)

    def name(self, index: int) -> str:
        """Where the input of pair ``index`` is."""
        return self.inputs.name(index)

    def target_name(self, index: int) -> str:
        """Where the target of pair ``index`` is."""
        return self.targets.name(index)
