"""Noise2Inverse: learning to denoise an object from several noisy reconstructions of it.

The measurement is divided into K parts, such as every K-th projection angle, and each part is
reconstructed separately. The K sub-reconstructions show the same object and their noise is
independent, so a network that is trained to predict one from others can only learn the object
(Hendriksen, Pelt & Batenburg, Noise2Inverse, IEEE Trans. Comput. Imaging 6:1320-1335, 2020). With
K = 2, the parts may as well be two noisy images (Lehtinen et al., Noise2Noise, ICML 2018).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from msdtool.data.interfaces import Sample, Stack
from msdtool.data.masks import MaskStack
from msdtool.data.pairing import as_tuple, check_counts, check_independent, read_pair
from msdtool.data.patches import Window
from msdtool.data.slabs import SlabStack
from msdtool.data.specifiers import Specifier
from msdtool.data.stacks import ImageStack
from msdtool.data.views import MeanStack
from msdtool.errors import InputError


def split_inputs(splits: Sequence[Stack], strategy: str, slab: int) -> list[Stack]:
    """The inputs of a network, one stack for each split.

    Args:
        splits: K sub-reconstructions.
        strategy: "X:1", the mean of all splits but one; or "1:X", one split.
        slab: number of slices above, and below, the central one.
    """
    inputs: list[Stack] = list(splits)
    if strategy == "X:1":
        inputs = [MeanStack([*splits[:k], *splits[k + 1 :]]) for k in range(len(splits))]
    return [SlabStack(stack, slab) for stack in inputs] if slab else inputs


class SplitPairs(Dataset[tuple[Tensor, ...]]):
    """Inputs and targets made of K sub-reconstructions.

    Each image yields K pairs. In pair K * i + k, split k of image i is the target and the mean of
    the other splits the input (strategy "X:1"), or split k is the input and the mean of the others
    the target ("1:X").

    Args:
        path_specifiers: of each split; see `ImageStack`.
        strategy: "X:1" or "1:X".
        collapse_channels: average the channels of the images.
        mask_path_specifier: images that are nonzero where the target counts.
        ndim: number of spatial axes, 2 or 3.
        slab: this many slices above and below each input become channels of it.
        kinds: what the stacks are called; None: split 1, split 2, ...

    Raises:
        InputError: a specifier names no file, or the numbers of files differ.
    """

    def __init__(
        self,
        path_specifiers: Sequence[Specifier],
        *,
        strategy: str = "X:1",
        collapse_channels: bool = False,
        mask_path_specifier: Specifier | None = None,
        ndim: int = 2,
        slab: int = 0,
        kinds: Sequence[str] | None = None,
    ) -> None:
        self.kinds = kinds or [f"split {k + 1}" for k in range(len(path_specifiers))]
        self.splits = [
            ImageStack(specifier, collapse_channels=collapse_channels, ndim=ndim)
            for specifier in path_specifiers
        ]
        self.masks = None
        if mask_path_specifier is not None:
            self.masks = MaskStack(mask_path_specifier, ndim=ndim)
        self.slab = slab
        self.scale = 1
        for kind, stack in self.stacks().items():
            check_counts(self.splits[0], self.kinds[0], stack, kind)
        check_independent(dict(zip(self.kinds, self.splits, strict=True)))
        self._inputs = split_inputs(self.splits, strategy, slab)
        self._central_inputs = split_inputs(self.splits, strategy, 0)
        self._targets = split_inputs(self.splits, "1:X" if strategy == "X:1" else "X:1", 0)

    def __len__(self) -> int:
        return len(self.splits[0]) * len(self.splits)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return as_tuple(self.sample(range(len(self))[index]))

    def _place(self, index: int) -> tuple[int, int]:
        """The image and the split of a pair."""
        return divmod(index, len(self.splits))

    def space(self, index: int) -> tuple[int, ...]:
        """The size of the input of pair ``index`` in pixels, per spatial axis."""
        return self.splits[0].space(self.image(index))

    def sample(
        self, index: int, window: Window | None = None, *, central_only: bool = False
    ) -> Sample:
        """Read pair ``index``; see `Pairs.sample`.

        Raises:
            InputError: a file cannot be read, or the images of the pair differ in size or channels.
        """
        image, split = self._place(index)
        inputs = self._central_inputs if central_only else self._inputs
        sample = read_pair(inputs[split], self._targets[split], self.masks, image, window)
        thickness = 1 if central_only else 2 * self.slab + 1
        channels = len(sample.input) // thickness, len(sample.target)
        if channels[0] != channels[1]:
            raise InputError(
                f"{self.name(index)} has {channels[0]} channels, {self.target_name(index)} has "
                f"{channels[1]}; each is input and target, so both need the same number, or set "
                "data.collapse_channels: true"
            )
        return sample._replace(indices=torch.tensor(index))

    def name(self, index: int) -> str:
        """What the input of pair ``index`` is made of."""
        image, split = self._place(index)
        return self._inputs[split].name(image)

    def target_name(self, index: int) -> str:
        """What the target of pair ``index`` is made of."""
        image, split = self._place(index)
        return self._targets[split].name(image)

    def image(self, index: int) -> int:
        """The image of pair ``index``."""
        return self._place(index)[0]

    def stacks(self) -> Mapping[str, ImageStack]:
        """The stacks of the splits and of the masks."""
        stacks = dict(zip(self.kinds, self.splits, strict=True))
        return stacks if self.masks is None else {**stacks, "mask": self.masks}

    def to_measure(self) -> Sequence[int]:
        """One pair of each image: it is made of all splits of the image."""
        count = len(self.splits)
        return [image * count + image % count for image in range(len(self.splits[0]))]
