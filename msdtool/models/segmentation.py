"""The model for segmentation."""

from collections.abc import Sequence

import torch

from msdtool.models.base import MSDModel, refuse_parallel
from msdtool.nn.msd import DILATIONS
from msdtool.train.losses import SegmentationLoss


class MSDSegmentationModel(MSDModel):
    """A network for segmentation; its outputs are scores, their softmax is the probability.

    Args:
        c_in: input channels.
        num_labels: the number of labels.
        depth: hidden layers.
        width: channels per hidden layer.
        dilations: repeated when there are more layers.
        parallel: must be False; one model works on one device.
        ndim: number of spatial axes, 2 or 3.
        padding: border rule, "symmetric", "reflect" or "zeros".
        device: None takes the GPU if there is one.
    """

    task = "segmentation"

    def __init__(
        self,
        c_in: int,
        num_labels: int,
        depth: int,
        width: int,
        *,
        dilations: Sequence[int] = DILATIONS,
        parallel: bool = False,
        ndim: int = 2,
        padding: str = "symmetric",
        device: str | torch.device | None = None,
    ) -> None:
        refuse_parallel(parallel)
        super().__init__(
            c_in,
            num_labels,
            depth,
            width,
            dilations,
            ndim=ndim,
            padding=padding,
            device=device,
            criterion=SegmentationLoss("cross_entropy"),
        )
        self.labels = list(range(num_labels))
        self.normalisation["label_counts"] = [0] * num_labels
