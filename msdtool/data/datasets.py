"""Pairs of input and target images."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.data import Dataset

from msdtool.data.interfaces import PairReader, Sample, Stack
from msdtool.data.labels import IGNORED
from msdtool.data.patches import Window, enlarged
from msdtool.data.slabs import SlabStack
from msdtool.data.specifiers import Specifier
from msdtool.data.stacks import ImageStack
from msdtool.errors import InputError


class ImageDataset(Dataset[tuple[Tensor, ...]]):
    """Input and target images on disk, paired in natural order of their paths.

    ``dataset[i]`` is (input, target), and (input, target, mask) for a regression with masks. In a
    segmentation, masked pixels have the target index -100. Targets, and masks, may be a whole
    number of times as large as inputs, the same number for all pairs.

    Args:
        input_path_specifier: see `ImageStack`.
        target_path_specifier: likewise.
        collapse_channels: average the channels of inputs and targets.
        labels: the targets are labels; see `ImageStack`.
        ignore: label value of pixels that do not count.
        mask_path_specifier: images whose pixels are not 0 where the target counts.
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
            self.masks = ImageStack(mask_path_specifier, collapse_channels=True, ndim=ndim)
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
        """How many times as large the targets are as the inputs; see `first_scale`."""
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
        """Each pair has an image of its own."""
        return index

    def stacks(self) -> Mapping[str, ImageStack]:
        """The stacks of inputs, targets and masks."""
        stacks = {"input": self.inputs, "target": self.targets, "mask": self.masks}
        return {kind: stack for kind, stack in stacks.items() if stack is not None}

    def to_measure(self) -> Sequence[int]:
        """All pairs."""
        return range(len(self))

    def keep_in_memory(self) -> None:
        """Read all images now and keep them."""
        for stack in self.stacks().values():
            stack.keep_in_memory()

    @property
    def num_labels(self) -> int:
        """The number of labels of the targets.

        Raises:
            RuntimeError: the targets are not labelled.
        """
        return self.targets.num_labels


def as_tuple(sample: Sample) -> tuple[Tensor, ...]:
    """A sample as torch's data loaders take it: input, target, and the mask if there is one."""
    if sample.mask is None:
        return sample.input, sample.target
    return sample.input, sample.target, sample.mask


def check_counts(first: ImageStack, first_kind: str, other: ImageStack, kind: str) -> None:
    """Check that two stacks hold equally many images.

    Raises:
        InputError: they do not.
    """
    if len(first) != len(other):
        raise InputError(
            f"found {len(first)} {first_kind} images ({first.paths[0]} ...) but "
            f"{len(other)} {kind} images ({other.paths[0]} ...); "
            f"each {first_kind} needs one, in the same natural order{_pages_hint(first, other)}"
        )


def first_scale(inputs: Stack, targets: Stack) -> int:
    """How many times as large the first target is as its input; 1 if not a whole number."""
    try:
        input, target = inputs.space(0), targets.space(0)
    except InputError:
        return 1  # reading that pair will tell; the others can still be read
    scale = max(1, target[0] // max(1, input[0]))
    return scale if target == tuple(scale * size for size in input) else 1


def read_pair(
    inputs: Stack,
    targets: Stack,
    masks: Stack | None,
    index: int,
    window: Window | None,
    scale: int = 1,
) -> Sample:
    """Read the images of a pair and have them agree about what counts.

    Args:
        inputs: where to read the input.
        targets: where to read the target.
        masks: where to read the mask, of the target's size.
        index: which pair.
        window: in the input's coordinates; None: all of it.
        scale: how many times as large the target is as the input.

    Raises:
        InputError: one cannot be read, or they differ in size.
    """
    input = inputs.read(index, window)
    others: list[Tensor] = []
    for kind, stack in (("target", targets), ("mask", masks)):
        if stack is None:
            continue
        if window is not None:
            # A window would hide that the images differ around it.
            check_sizes(inputs, inputs.space(index), stack, stack.space(index), kind, index, scale)
        others.append(stack.read(index, None if window is None else enlarged(window, scale)))
        check_sizes(inputs, input.shape[1:], stack, others[-1].shape[1:], kind, index, scale)
    target, *mask = others
    sample = Sample(input, target, None, torch.tensor(index))
    return masked(sample, mask[0] != 0) if mask else sample


def check_sizes(
    inputs: Stack,
    size: Sequence[int],
    stack: Stack,
    other: Sequence[int],
    kind: str,
    index: int,
    scale: int = 1,
) -> None:
    """Check that image ``index`` of ``stack`` is ``scale`` times as large as that of ``inputs``.

    Raises:
        InputError: it is not.
    """
    if tuple(scale * length for length in size) != tuple(other):
        need = "both need the same size"
        if scale > 1:
            need = f"in the first pair it is {scale} times as large, which all need to be"
        raise InputError(
            f"{inputs.name(index)} is {size_text(size)} pixels, its {kind} "
            f"{stack.name(index)} is {size_text(other)}; {need}"
        )


def masked(sample: Sample, mask: Tensor) -> Sample:
    """Let only the pixels of ``mask`` [1, *space] count, of those that did before."""
    if not sample.target.is_floating_point():
        return sample._replace(target=torch.where(mask, sample.target, IGNORED))
    # Whatever fills the pixels that do not count, NaN included, must not spread.
    target = torch.where(mask, sample.target, 0.0)
    both = mask if sample.mask is None else mask & sample.mask
    return sample._replace(target=target, mask=both)


def finite_sample(
    pairs: PairReader, index: int, window: Window | None = None, *, central_only: bool = False
) -> Sample:
    """Read pair ``index`` or a window of it; see `Pairs.sample`.

    Raises:
        InputError: a file cannot be used, or holds values that are not finite where they count.
    """
    sample = pairs.sample(index, window, central_only=central_only)
    check_finite(sample.input, pairs.name(index), "replace them")
    check_finite(
        sample.target, pairs.target_name(index), "replace them, or leave them out by a mask"
    )
    return sample


def check_finite(image: Tensor, name: str, remedy: str) -> None:
    """Check an image.

    Raises:
        InputError: it holds values that are not finite.
    """
    bad = int(image.numel() - image.isfinite().sum())
    if bad:
        raise InputError(f"{name}: {bad} of {image.numel()} values are NaN or infinite; {remedy}")


def _pages_hint(*stacks: ImageStack) -> str:
    """What may be wrong with the count when a file holds several images."""
    if not any(stack.has_volumes for stack in stacks):
        return ""
    return ". The pages of a file count as images; if they are channels, say so: axes: CYX"


def size_text(size: Sequence[int]) -> str:
    """A size as people write it: 512 x 512."""
    return " x ".join(map(str, size))
