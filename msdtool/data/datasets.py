"""Pairs of input and target images."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from msdtool.data.labels import IGNORED
from msdtool.data.specifiers import Specifier
from msdtool.data.stacks import ImageStack
from msdtool.errors import InputError


class Sample(NamedTuple):
    """One image, or a batch of them with a leading axis B.

    Attributes:
        input: [C, *space] float32.
        target: [C, *space] float32, or [1, *space] int64 class indices.
        mask: [1, *space] bool, True where the target counts; None: everywhere.
        indices: which images of the data set these are, [] or [B] int64.
    """

    input: Tensor
    target: Tensor
    mask: Tensor | None
    indices: Tensor


class ImageDataset(Dataset[tuple[Tensor, ...]]):
    """Input and target images on disk, paired in natural order of their paths.

    ``dataset[i]`` is (input, target), and (input, target, mask) for a regression with masks. In a
    segmentation, masked pixels have the target index -100.

    Args:
        input_path_specifier: see `ImageStack`.
        target_path_specifier: likewise.
        collapse_channels: average the channels of inputs and targets.
        labels: the targets are labels; see `ImageStack`.
        ignore: label value of pixels that do not count.
        mask_path_specifier: images whose pixels are not 0 where the target counts.
        ndim: number of spatial axes, 2 or 3.

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
        self._check_counts()

    def _check_counts(self) -> None:
        for kind, stack in (("target", self.targets), ("mask", self.masks)):
            if stack is not None and len(stack) != len(self.inputs):
                raise InputError(
                    f"found {len(self.inputs)} input images ({self.inputs.paths[0]} ...) but "
                    f"{len(stack)} {kind} images ({stack.paths[0]} ...); "
                    "each input needs one, in the same natural order"
                    f"{_pages_hint(self.inputs, stack)}"
                )

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        sample = self.sample(index)
        if sample.mask is None:
            return sample.input, sample.target
        return sample.input, sample.target, sample.mask

    def sample(self, index: int) -> Sample:
        """Read pair ``index``.

        Raises:
            InputError: a file cannot be read, or the images of the pair differ in size.
        """
        index = range(len(self))[index]
        input, target = self.inputs[index], self.targets[index]
        self._check_sizes(index, input.shape, "target", target.shape)
        mask = None
        if self.masks is not None:
            mask = self.masks[index] != 0
            self._check_sizes(index, input.shape, "mask", mask.shape)
            if self.targets.label_map is not None:
                target = torch.where(mask, target, IGNORED)
                mask = None
            else:
                # Whatever fills the pixels that do not count, NaN included, must not spread.
                target = torch.where(mask, target, 0.0)
        return Sample(input, target, mask, torch.tensor(index))

    def _check_sizes(
        self, index: int, input: Sequence[int], kind: str, other: Sequence[int]
    ) -> None:
        if tuple(input[1:]) != tuple(other[1:]):
            stack = self.targets if kind == "target" else self.masks
            assert stack is not None
            raise InputError(
                f"{self.inputs.name(index)} is {size_text(input[1:])} pixels, its {kind} "
                f"{stack.name(index)} is {size_text(other[1:])}; both need the same size"
            )

    def name(self, index: int) -> str:
        """The input file of pair ``index``."""
        return self.inputs.name(index)

    def target_name(self, index: int) -> str:
        """The target file of pair ``index``."""
        return self.targets.name(index)

    def keep_in_memory(self) -> None:
        """Read all images now and keep them."""
        for stack in (self.inputs, self.targets, self.masks):
            if stack is not None:
                stack.keep_in_memory()

    @property
    def num_labels(self) -> int:
        """The number of labels of the targets.

        Raises:
            RuntimeError: the targets are not labelled.
        """
        return self.targets.num_labels


class SubsetOf(Dataset[tuple[Tensor, ...]]):
    """Some pairs of a data set, in a given order."""

    def __init__(self, dataset: ImageDataset, chosen: Sequence[int]) -> None:
        self.dataset = dataset
        self.chosen = list(chosen)

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return self.dataset[self.chosen[index]]

    def sample(self, index: int) -> Sample:
        """Read pair ``index`` of the subset; its `indices` count within the subset."""
        sample = self.dataset.sample(self.chosen[index])
        return sample._replace(indices=torch.tensor(index))

    def name(self, index: int) -> str:
        """The input file of pair ``index``."""
        return self.dataset.name(self.chosen[index])

    def target_name(self, index: int) -> str:
        """The target file of pair ``index``."""
        return self.dataset.target_name(self.chosen[index])


Pairs = ImageDataset | SubsetOf


def finite_sample(pairs: Pairs, index: int) -> Sample:
    """Read pair ``index``.

    Raises:
        InputError: a file cannot be used, or holds values that are not finite where they count.
    """
    sample = pairs.sample(index)
    _check_finite(sample.input, pairs.name(index), "replace them")
    _check_finite(
        sample.target, pairs.target_name(index), "replace them, or leave them out by a mask"
    )
    return sample


def _check_finite(image: Tensor, name: str, remedy: str) -> None:
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
