"""The model for regression."""

from typing import Unpack

from msdtool.errors import InputError
from msdtool.models.base import MSDModel
from msdtool.models.stored import ModelOptions
from msdtool.train.losses import RegressionLoss


class MSDRegressionModel(MSDModel):
    """A network for regression, such as denoising.

    Args:
        c_in: input channels.
        c_out: output channels.
        depth: hidden layers.
        width: channels per hidden layer.
        loss: "L1" (mean absolute error) or "L2" (mean squared error), in the data's units.
        options: dilations, parallel, ndim, padding and device, see `MSDModel`.

    Raises:
        InputError: the loss is another one, or no network can have these layers.
    """

    task = "regression"

    def __init__(
        self,
        c_in: int,
        c_out: int,
        depth: int,
        width: int,
        *,
        loss: str = "L2",
        **options: Unpack[ModelOptions],
    ) -> None:
        if loss not in ("L1", "L2"):
            raise InputError(f"loss is {loss!r}; allowed: L1, L2")
        super().__init__(c_in, c_out, depth, width, criterion=RegressionLoss(loss), **options)
