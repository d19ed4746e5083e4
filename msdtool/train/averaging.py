"""The average of a network's weights over the updates, which is validated and saved."""

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class WeightAverage:
    """An exponential moving average: ``decay`` times the average plus 1 - decay times the weights.

    Running statistics of normalising layers are the network's own. Polyak and Juditsky,
    "Acceleration of stochastic approximation by averaging" (1992), with the weights of recent
    updates counting more.

    Args:
        network: on its device; it is copied.
        decay: between 0 and 1; the average is over about the last 1 / (1 - decay) updates.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay))

    @property
    def network(self) -> nn.Module:
        """A network with the averaged weights."""
        module = self._averaged.module
        assert isinstance(module, nn.Module)
        return module

    @property
    def updates(self) -> int:
        """Number of updates that are averaged."""
        return int(self._averaged.n_averaged)

    def add(self, network: nn.Module) -> None:
        """Add the weights of a network after an update; the first ones replace the copy's."""
        self._averaged.update_parameters(network)

    def load(self, state: dict[str, Tensor], updates: int) -> None:
        """Replace the averaged weights and their number."""
        self.network.load_state_dict(state)
        self._averaged.n_averaged.fill_(updates)
