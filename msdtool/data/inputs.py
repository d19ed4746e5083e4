"""The inputs of a trained network, made the same way as its training inputs."""

import hashlib
import os
from collections.abc import Sequence

from torch import Tensor

from msdtool.data.interfaces import Sample, Stack
from msdtool.data.pairing import (
    check_counts,
    check_finite,
    check_independent,
    first_scale,
    read_pair,
)
from msdtool.data.patches import Window
from msdtool.data.slabs import SlabStack
from msdtool.data.specifiers import Specifier
from msdtool.data.splits import split_inputs
from msdtool.data.stacks import ImageStack
from msdtool.data.views import ChannelConcatenation, MeanStack
from msdtool.errors import InputError
from msdtool.file_errors import cannot_read


def open_inputs(
    specifiers: Sequence[Specifier],
    *,
    splits: int = 0,
    strategy: str = "X:1",
    slab: int = 0,
    collapse_channels: bool = False,
    ndim: int = 2,
    factor: float = 1.0,
) -> tuple[Stack, list[ImageStack]]:
    """Open the inputs of a network.

    A network that was trained on K splits is applied to the K splits of other scans: it gets one
    input per split, and the mean of its K outputs is the result (Noise2Inverse). The K inputs are
    concatenated along the channels. It can also be applied to a single, unsplit reconstruction.

    Args:
        specifiers: of the images; one per split, if there are K splits.
        splits, strategy, slab, collapse_channels, ndim: see `msdtool.runs.model.Model`.
        factor: the images are multiplied by it.

    Returns:
        The inputs, and the stacks that they are read from.

    Raises:
        InputError: there are no files, or the number of splits is wrong.
    """
    stacks = [
        ImageStack(specifier, collapse_channels=collapse_channels, ndim=ndim, factor=factor)
        for specifier in specifiers
    ]
    if len(stacks) == 1:
        return (SlabStack(stacks[0], slab) if slab else stacks[0]), stacks
    if len(stacks) != splits:
        raise InputError(
            f"the network was trained on {splits} splits: give one specifier for each, or a single "
            f"one for unsplit reconstructions; got {len(stacks)}. A pattern in quotes counts as one"
        )
    for number, stack in enumerate(stacks[1:], 2):
        check_counts(stacks[0], "split 1", stack, f"split {number}")
    check_independent({f"split {number}": stack for number, stack in enumerate(stacks, 1)})
    return ChannelConcatenation(split_inputs(stacks, strategy, slab)), stacks


class MeasuredPairs:
    """The inputs of a trained network with the targets that its outputs are compared with.

    Args:
        inputs, files: see `open_inputs`.
        targets: one image per input.
        masks: nonzero where the target counts.
        slab: number of slices above, and below, the central one of each input.

    Attributes:
        paths: all files that are read.

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
        self.files = files
        self.targets = targets
        self.masks = masks
        self.slab = slab
        self.scale = first_scale(inputs, targets)
        self._central_inputs = MeanStack(files)
        stacks = [*files, targets] if masks is None else [*files, targets, masks]
        self.paths = {path.resolve() for stack in stacks for path in stack.paths}
        for kind, stack in (("target", targets), ("mask", masks)):
            if stack is not None:
                check_counts(files[0], "input", stack, kind)

    def __len__(self) -> int:
        return len(self.targets)

    def version(self) -> str:
        """A hash of the files' names, sizes and times of change; other images have another one.

        Raises:
            InputError: a file cannot be found.
        """
        digest = hashlib.blake2b(digest_size=16)
        for stack in (*self.files, self.targets, self.masks):
            for path in dict.fromkeys(stack.paths) if stack is not None else ():
                # A store is a folder.
                for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                    with cannot_read(file, InputError):
                        state = file.stat()
                    facts = (os.fspath(file), state.st_size, state.st_mtime_ns)
                    digest.update(repr(facts).encode("utf-8", "backslashreplace"))
            digest.update(b"\0")
        return digest.hexdigest()

    def sample(
        self, index: int, window: Window | None = None, *, central_only: bool = False
    ) -> Sample:
        """Read pair ``index``, or a window of it.

        Args:
            index: of the pair.
            window: in the input's coordinates.
            central_only: as the input, return the image that the target is compared with: the
                central slice of a slab, the mean of splits.

        Raises:
            InputError: a file cannot be read, or the images of the pair differ in size.
        """
        inputs: Stack = self._central_inputs if central_only else self.inputs
        return read_pair(inputs, self.targets, self.masks, index, window, self.scale)

    def target(self, index: int) -> tuple[Tensor, Tensor | None]:
        """Read the target of pair ``index``, and its mask [1, *space] or None.

        Raises:
            InputError: a file cannot be read, or the target is not finite.
        """
        values = self.targets.read(index)
        check_finite(values, self.target_name(index), "replace them, or exclude them with a mask")
        return values, None if self.masks is None else self.masks.read(index) != 0

    def name(self, index: int) -> str:
        """Where the input of pair ``index`` is."""
        return self.inputs.name(index)

    def target_name(self, index: int) -> str:
        """Where the target of pair ``index`` is."""
        return self.targets.name(index)
