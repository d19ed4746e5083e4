"""An experiment's data are opened, and the network that fits them is planned."""

from dataclasses import dataclass

import torch

from msdtool.architecture import Architecture
from msdtool.config import ExperimentConfig
from msdtool.data import Pairs
from msdtool.data.build import build_datasets
from msdtool.errors import ConfigError
from msdtool.nn.device import choose_device
from msdtool.nn.from_config import check_scale, plan_architecture
from msdtool.train.build import check_images, uses_graphs
from msdtool.train.precision import check_precision
from msdtool.train.processes import Processes


@dataclass(frozen=True)
class Opened:
    """An experiment's data, where they are trained on, and the network that fits them.

    Attributes:
        device: where to train.
        train_pairs: the training set.
        validation_pairs: the validation set, if there is one.
        input_shape: of the first training image, [C, *space].
        architecture: of the network.
        graphs: whether steps are CUDA graphs.
    """

    device: torch.device
    train_pairs: Pairs
    validation_pairs: Pairs | None
    input_shape: tuple[int, ...]
    architecture: Architecture
    graphs: bool

    @property
    def num_pairs(self) -> dict[str, int]:
        """Number of pairs by kind, as a checkpoint records them."""
        return {
            "training": len(self.train_pairs),
            "validation": 0 if self.validation_pairs is None else len(self.validation_pairs),
        }


def open_experiment(config: ExperimentConfig, processes: Processes) -> Opened:
    """Choose the device, open the data and plan the network.

    Raises:
        ConfigError: the config does not fit the machine, or the data.
        InputError: the data cannot be opened.
    """
    batch_size, size = config.training.batch_size, processes.size
    if batch_size < size:
        raise ConfigError(
            f"training.batch_size: {batch_size} cannot be shared by {size} processes; it counts "
            f"the images of all processes: set {size} or more, or start fewer processes"
        )
    device = choose_device(config.training.device)
    check_precision(config.training.precision, device)
    processes.use_device(device)
    train_pairs, validation_pairs = build_datasets(config)
    graphs = uses_graphs(config, device, size, train_pairs)
    # One pixel has all channels; a volume may be larger than memory.
    space = train_pairs.space(0)
    first = train_pairs.sample(0, tuple(slice(0, 1) for _ in space))
    planned = plan_architecture(
        config,
        first.input.shape[0],
        config.num_outputs(first.target.shape[0]),
        config.crop_size or space,
    )
    check_scale(config, planned, train_pairs.scale)
    check_images(config, planned, train_pairs, validation_pairs)
    input_shape = (first.input.shape[0], *space)
    return Opened(device, train_pairs, validation_pairs, input_shape, planned, graphs)
