"""Pairs of input and target images."""

from collections.abc import Mapping, Sequence
from functools import cached_property

from torch import Tensor
from torch.utils.data import Dataset

from msdtool.data.interfaces import Sample, Stack
from msdtool.data.masks import MaskStack
from msdtool.data.pairing import as_tuple, check_counts, first_scale, read_pair
from msdtool.data.patches import Window
from msdtool.data.slabs import SlabStack
from msdtool.data.specifiers import Specifier
from msdtool.data.stacks import ImageStack


class ImageDataset(Dataset[tuple[Tensor, ...]]):
    """Input and target images on disk, paired in natural order of their paths.

    ``dataset[i]`` is (input, target), and (input, target, mask) for a regression with masks. In a
    segmentation, pixels outside the mask have the target index -100. Targets and masks may be an
    integer number of times as large as inputs, the same number for all pairs.

    Args:
        input_path_specifier: see `ImageStack`.
        target_path_specifier: see `ImageStack`.
        collapse_channels: average the channels of inputs and targets.
        labels: the targets are labels; see `ImageStack`.
        ignore: label value of pixels that do not count.
        mask_path_specifier: images that are nonzero where the target counts.
        ndim: number of spatial axes, 2 or 3.
        slab: this many slices above and below each input become channels of it; see `SlabStack`.

    Raises:
        InputError: a specifier names no file, or the numbers of files differ.
    """

    def __init__(
        self,
        input_path_specifier: Specifier,
        target_path_specifier: Specifier,
        *,
        collapse_channels: bool = False,
        labels: int | Sequence[int] | None = None,
        ignore: int | None = None,
        mask_path_specifier: Specifier | None = None,
        ndim: int = 2,
        slab: int = 0,
    ) -> None:
        self.inputs = ImageStack(
            input_path_specifier, collapse_channels=collapse_channels, ndim=ndim
        )
        self.targets = ImageStack(
            target_path_specifier,
            collapse_channels=collapse_channels,
            labels=labels,
            ignore=ignore,
            ndim=ndim,
        )
        self.masks = None
        if mask_path_specifier is not None:
            self.masks = MaskStack(mask_path_specifier, ndim=ndim)
        self.slab = slab
        self._slabs: Stack = SlabStack(self.inputs, slab) if slab else self.inputs
        for kind, stack in self.stacks().items():
            check_counts(self.inputs, "input", stack, kind)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return as_tuple(self.sample(index))

    @cached_property
    def scale(self) -> int:
        """Size of the targets relative to the inputs; see `first_scale`."""
        return first_scale(self.inputs, self.targets)

    def space(self, index: int) -> tuple[int, ...]:
        """The size of the input of pair ``index`` in pixels, per spatial axis."""
        return self.inputs.space(index)

    def sample(
        self, index: int, window: Window | None = None, *, central_only: bool = False
    ) -> Sample:
        """Read pair ``index``; see `Pairs.sample`.

        Raises:
            InputError: a file cannot be read, or the images of the pair differ in size.
        """
        index = range(len(self))[index]
        inputs: Stack = self.inputs if central_only else self._slabs
        return read_pair(inputs, self.targets, self.masks, index, window, self.scale)

    def name(self, index: int) -> str:
        """The input file of pair ``index``."""
        return self.inputs.name(index)

    def target_name(self, index: int) -> str:
        """The target file of pair ``index``."""
        return self.targets.name(index)

    def image(self, index: int) -> int:
        """The image of pair ``index``: each pair has its own."""
        return index

    def stacks(self) -> Mapping[str, ImageStack]:
        """The stacks of inputs, targets and masks."""
        stacks = {"input": self.inputs, "target": self.targets, "mask": self.masks}
        return {kind: stack for kind, stack in stacks.items() if stack is not None}

    def to_measure(self) -> Sequence[int]:
        """All pairs."""
        return range(len(self))

    def keep_in_memory(self) -> None:
        """Read all images now and keep them in memory."""
        for stack in self.stacks().values():
            stack.keep_in_memory()

    @property
    def num_labels(self) -> int:
        """Number of labels of the targets.

        Raises:
            RuntimeError: the targets are not labelled.
        """
        return self.targets.num_labels
