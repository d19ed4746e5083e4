"""The model for segmentation."""

from dataclasses import replace
from typing import Unpack

from torch import Tensor

from msdtool.data import IGNORED
from msdtool.errors import InputError
from msdtool.models.base import MSDModel
from msdtool.models.stored import ModelOptions
from msdtool.train.losses import CrossEntropyLoss


class MSDSegmentationModel(MSDModel):
    """A network for segmentation; its outputs are scores whose softmax is the probability.

    Args:
        c_in: input channels.
        num_labels: number of labels.
        depth: hidden layers.
        width: channels per hidden layer.
        options: dilations, parallel, ndim, padding and device, see `MSDModel`.

    Raises:
        InputError: no network can have these layers.
    """

    task = "segmentation"

    def __init__(
        self,
        c_in: int,
        num_labels: int,
        depth: int,
        width: int,
        **options: Unpack[ModelOptions],
    ) -> None:
        super().__init__(c_in, num_labels, depth, width, criterion=CrossEntropyLoss(), **options)
        self.labels = tuple(range(num_labels))
        self.normalisation = replace(self.normalisation, label_counts=(0,) * num_labels)

    def set_target(self, data: Tensor) -> None:
        """Set the target: class indices [B, 1, *space], of any dtype.

        Raises:
            InputError: it has another shape, or a value that is neither an index from 0 to
                num_labels - 1 nor `msdtool.data.IGNORED`.
        """
        super().set_target(data)

    def _checked_target(self, data: Tensor) -> Tensor:
        self._check_shape("target", data, 1)
        indices = data.long()
        known = (indices == IGNORED) | ((indices >= 0) & (indices < self.architecture.c_out))
        wrong = data[~(known & (indices == data))]
        if wrong.numel():
            raise InputError(
                f"the target has values from {wrong.min().item()} to {wrong.max().item()} that are "
                f"not class indices; allowed: 0 to {self.architecture.c_out - 1}, and {IGNORED} "
                "where pixels do not count"
            )
        return indices
