"""The model for regression."""

from collections.abc import Sequence

import torch

from msdtool.errors import InputError
from msdtool.models.base import MSDModel, refuse_parallel
from msdtool.nn.msd import DILATIONS
from msdtool.train.losses import RegressionLoss


class MSDRegressionModel(MSDModel):
    """A network for regression, such as denoising.

    Args:
        c_in: input channels.
        c_out: output channels.
        depth: hidden layers.
        width: channels per hidden layer.
        dilations: repeated when there are more layers.
        loss: "L1" (mean absolute error) or "L2" (mean squared error), in the data's units.
        parallel: must be False; one model works on one device.
        ndim: number of spatial axes, 2 or 3.
        padding: border rule, "symmetric", "reflect" or "zeros".
        device: None takes the GPU if there is one.
    """

    task = "regression"

    def __init__(
        self,
        c_in: int,
        c_out: int,
        depth: int,
        width: int,
        *,
        dilations: Sequence[int] = DILATIONS,
        loss: str = "L2",
        parallel: bool = False,
        ndim: int = 2,
        padding: str = "symmetric",
        device: str | torch.device | None = None,
    ) -> None:
        refuse_parallel(parallel)
        if loss not in ("L1", "L2"):
            raise InputError(f"loss is {loss!r}; allowed: L1, L2")
        super().__init__(
            c_in,
            c_out,
            depth,
            width,
            dilations,
            ndim=ndim,
            padding=padding,
            device=device,
            criterion=RegressionLoss(loss),
        )
