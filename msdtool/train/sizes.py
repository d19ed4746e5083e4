"""The sizes of the images that a network will meet."""

from contextlib import suppress

from msdtool.config import ExperimentConfig
from msdtool.data import Pairs
from msdtool.errors import InputError
from msdtool.nn.build import Architecture, check_sizes


def sizes_of(pairs: Pairs) -> list[tuple[int, ...]]:
    """The sizes that inputs have; slices that are held out make volumes smaller."""
    sizes: dict[tuple[int, ...], None] = {}
    for index in pairs.to_measure():
        with suppress(InputError):  # reading the file will tell
            sizes[pairs.space(index)] = None
    return list(sizes)


def check_images(
    config: ExperimentConfig, architecture: Architecture, train: Pairs, validation: Pairs | None
) -> None:
    """Try the layers around the network on the sizes of the images, not of the first one alone.

    Raises:
        ConfigError: a layer cannot work on one of them.
    """
    if not (config.network.stem or config.network.head):
        return
    training = [config.crop_size] if config.crop_size else sizes_of(train)
    check_sizes(config, architecture, training, sizes_of(validation) if validation else [])
