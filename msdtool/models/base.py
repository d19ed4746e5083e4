"""The base of the models of both tasks: forward, learn, train, validate."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from msdtool.errors import InputError
from msdtool.models.batches import Batches, length, samples
from msdtool.models.stored import StoredModel
from msdtool.nn.msd import DILATIONS
from msdtool.train.learner import Learner
from msdtool.train.loop import Plan, train
from msdtool.train.losses import Loss
from msdtool.train.optim import Schedule


class MSDModel(StoredModel):
    """Base class: training, validation, normalisation, saving and loading.

    Use `MSDRegressionModel` or `MSDSegmentationModel`.

    Args:
        c_in: input channels.
        c_out: output channels.
        depth: hidden layers.
        width: channels per hidden layer.
        dilations: one per layer, repeated from the start if there are fewer.
        criterion: the loss of a batch; None: there is none, so the model can normalise and be
            saved and loaded, but not learn.
        parallel: divide each batch among all GPUs (`torch.nn.DataParallel`). It changes nothing
            where there is one, or on the CPU.
        ndim: number of spatial axes, 2 or 3.
        padding: what lies beyond the border, "symmetric", "reflect" or "zeros".
        device: None: the GPU if there is one, otherwise the CPU.

    Raises:
        InputError: no network can have these layers.

    Attributes:
        net: the network with its scaling layers.
        parallel: what computes the network: itself, or a `torch.nn.DataParallel` of it.
        msd: the `MSDModule` in it.
        optimizer: Adam with learning rate 0.001.
        loss: the loss of the last forward calculation, or None.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        depth: int,
        width: int,
        dilations: Sequence[int] = DILATIONS,
        *,
        criterion: Loss | None = None,
        parallel: bool = False,
        ndim: int = 2,
        padding: str = "symmetric",
        device: str | torch.device | None = None,
    ) -> None:
        super().__init__(
            c_in,
            c_out,
            depth,
            width,
            dilations,
            parallel=parallel,
            ndim=ndim,
            padding=padding,
            device=device,
        )
        self.criterion = criterion
        self.input: Tensor | None = None
        self.target: Tensor | None = None
        self.output: Tensor | None = None
        self.loss: Tensor | None = None

    # One pair at a time ------------------------------------------------------------------------

    def set_input(self, data: Tensor) -> None:
        """Set the input [B, c_in, *space].

        Raises:
            InputError: it has another number of axes or channels.
        """
        self._check_shape("input", data, self.architecture.c_in)
        self.input = data.to(self.device)

    def set_target(self, data: Tensor) -> None:
        """Set the target [B, c_out, *space].

        Raises:
            InputError: it has another number of axes or channels.
        """
        self.target = self._checked_target(data).to(self.device)

    def _checked_target(self, data: Tensor) -> Tensor:
        """Return the target as the loss takes it."""
        self._check_shape("target", data, self.architecture.c_out)
        return data

    def _check_shape(self, name: str, data: Tensor, channels: int) -> None:
        ndim = self.architecture.ndim
        if data.dim() != 2 + ndim or data.shape[1] != channels:
            axes = ", ".join("DHW"[-ndim:])
            raise InputError(
                f"the {name} has shape {tuple(data.shape)}; expected [B, {channels}, {axes}]"
            )

    def forward(self, input: Tensor | None = None, target: Tensor | None = None) -> Tensor:
        """Return the loss of an input-target pair; an argument left out keeps its last value.

        Raises:
            RuntimeError: input or target has never been given, or there is no criterion.
            InputError: one does not fit the network, or the other.
        """
        if input is not None:
            self.set_input(input)
        if target is not None:
            self.set_target(target)
        if self.input is None or self.target is None:
            raise RuntimeError("no input or no target; give them to forward()")
        return self._remembering_criterion(self.parallel(self.input), self.target, None)

    def learn(self, input: Tensor | None = None, target: Tensor | None = None) -> None:
        """Update the weights with one input-target pair."""
        self.optimizer.zero_grad(set_to_none=True)
        self.forward(input, target).backward()
        self.optimizer.step()

    def get_loss(self) -> float:
        """Return the mean loss of the last forward calculation.

        Raises:
            RuntimeError: nothing has been calculated yet.
        """
        if self.loss is None:
            raise RuntimeError("no loss yet; call forward(), learn(), train() or validate() first")
        return float(self.loss.detach())

    def get_output(self) -> Tensor | None:
        """Return the last output [B, c_out, *space], or None before the first one."""
        return self.output

    # Whole data sets ---------------------------------------------------------------------------

    def train(self, dataloader: Batches, num_epochs: int) -> None:
        """Train for ``num_epochs`` passes over the batches.

        Raises:
            InputError: there are no batches, or one does not fit the network.
            TrainingError: the loss is not finite.
        """
        batches_per_epoch = length(dataloader)
        learner = Learner(
            self.net,
            self._checking_criterion,
            self.optimizer,
            Schedule("constant", self.optimizer, 1),
            self.device,
        )
        learner.called = self.parallel
        # The loop seeds torch at each step; with a new seed each call shuffles differently.
        seed = int(torch.randint(2**31, ()))
        plan = Plan(epochs=num_epochs, batches_per_epoch=batches_per_epoch, seed=seed)
        for _ in train(learner, plan, samples(dataloader), None, lambda index: f"batch {index}"):
            pass

    def _checking_criterion(self, output: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        return self._remembering_criterion(output, self._checked_target(target), mask)

    def _remembering_criterion(self, output: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        if self.criterion is None:
            raise RuntimeError(
                "the model has no criterion; use MSDRegressionModel or MSDSegmentationModel"
            )
        self.output, self.target = output, target
        try:
            self.loss = self.criterion(output, target, mask)
        except ValueError as error:
            raise InputError(str(error)) from None
        return self.loss

    def validate(self, dataloader: Batches) -> float:
        """Return the mean loss over the batches.

        Raises:
            InputError: there are no batches, or one does not fit the network.
        """
        losses = []
        self.net.eval()
        with torch.no_grad():
            for input, target, *mask in dataloader:
                self.set_input(input)
                self.set_target(target)
                assert self.input is not None and self.target is not None
                on_device = mask[0].to(self.device) if mask else None
                loss = self._remembering_criterion(
                    self.parallel(self.input), self.target, on_device
                )
                losses.append(float(loss))
        self.net.train()
        if not losses:
            raise InputError("the data loader has no batches")
        return math.fsum(losses) / len(losses)
