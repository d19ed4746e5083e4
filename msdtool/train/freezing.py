"""Parts of a network that are not trained."""

from collections.abc import Sequence

import torch
from torch import Tensor

from msdtool.nn.msd import MSDModule
from msdtool.nn.scaling import ScaledNetwork


class Frozen:
    """The parts of a network that keep their weights, bit for bit.

    Whole tensors need no gradient, so that neither optimizer nor clipping nor averaging sees them.
    The biases of all hidden layers are one tensor: those of the first layers get a gradient of 0,
    and their value back after each update, which may have decayed them. Frozen layers work as in
    prediction: batch norms use and keep their running statistics.

    Args:
        network: on its device.
        parts: some of "stem" and "head".
        layers: number of hidden layers, from the first on.
    """

    def __init__(
        self, network: ScaledNetwork, parts: Sequence[str] = (), *, layers: int = 0
    ) -> None:
        self._modules = [network.get_submodule(part) for part in parts]
        self._bias: Tensor | None = None
        self._values = torch.zeros(0)
        weights: list[Tensor] = []
        msd = network.msd
        if not isinstance(msd, MSDModule):
            self._modules += list(msd.get_submodule("layers").children())[:layers]
        else:
            weights += msd.msd_block.weights[:layers]
            if layers == msd.depth:
                weights.append(msd.msd_block.bias)
            elif layers:
                self._bias = msd.msd_block.bias
                self._values = self._bias.detach()[: layers * msd.width].clone()
        weights += [weight for module in self._modules for weight in module.parameters()]
        for weight in weights:
            weight.requires_grad_(False)
        self.num_parameters = sum(map(Tensor.numel, weights)) + self._values.numel()

    def start(self) -> None:
        """Call after the network is set to train: frozen layers stay as they are in prediction."""
        for module in self._modules:
            module.eval()

    def before_update(self) -> None:
        """Call with the gradients of an update, before they are clipped."""
        if self._bias is not None and self._bias.grad is not None:
            self._bias.grad[: len(self._values)] = 0

    def after_update(self) -> None:
        """Call after the optimizer's step."""
        if self._bias is not None:
            with torch.no_grad():
                self._bias[: len(self._values)] = self._values
