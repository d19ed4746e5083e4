"""Data sets of an experiment; the only reader of the config in this package."""

import numpy as np

from msdtool.config import ExperimentConfig, ImageSource
from msdtool.data.datasets import ImageDataset, Pairs, SubsetOf
from msdtool.data.loaders import ShuffledBatches, TrainingSamples
from msdtool.data.specifiers import Source
from msdtool.errors import InputError


def build_datasets(config: ExperimentConfig) -> tuple[Pairs, Pairs | None]:
    """Return the training pairs, and the validation pairs if there are any.

    Raises:
        InputError: files are missing or cannot be paired.
    """
    data = config.data
    train = _dataset(config, data.train.input, data.train.target, data.train.mask)
    if data.validation is None:
        return train, None
    if data.validation.fraction is not None:
        return _split(train, data.validation.fraction, config.training.seed)
    assert data.validation.input is not None and data.validation.target is not None
    validation = _dataset(
        config, data.validation.input, data.validation.target, data.validation.mask
    )
    return train, validation


def to_source(configured: str | list[str] | ImageSource) -> Source:
    """Return the images that a config names as the data package reads them."""
    if not isinstance(configured, ImageSource):
        return Source(configured)
    shape = None if configured.shape is None else tuple(configured.shape)
    return Source(configured.path, configured.axes, shape, configured.dtype)


def _dataset(
    config: ExperimentConfig,
    input: str | list[str] | ImageSource,
    target: str | list[str] | ImageSource,
    mask: str | list[str] | ImageSource | None,
) -> ImageDataset:
    dataset = ImageDataset(
        to_source(input),
        to_source(target),
        collapse_channels=config.data.collapse_channels,
        labels=config.data.labels,
        ignore=config.data.ignore,
        mask_path_specifier=None if mask is None else to_source(mask),
        ndim=config.network.ndim,
    )
    if config.data.cache:
        dataset.keep_in_memory()
    return dataset


def _split(dataset: ImageDataset, fraction: float, seed: int) -> tuple[SubsetOf, SubsetOf]:
    """Hold out a random fraction, at least one pair, for validation."""
    if len(dataset) < 2:
        raise InputError(
            f"data.validation.fraction needs at least 2 training pairs, found {len(dataset)}"
        )
    held_out = min(max(round(fraction * len(dataset)), 1), len(dataset) - 1)
    order = np.random.default_rng([seed, len(dataset)]).permutation(len(dataset))
    return (
        SubsetOf(dataset, sorted(map(int, order[held_out:]))),
        SubsetOf(dataset, sorted(map(int, order[:held_out]))),
    )


def build_samples(config: ExperimentConfig, pairs: Pairs) -> TrainingSamples:
    """Return the training samples: crops and symmetries of the pairs."""
    return TrainingSamples(
        pairs,
        seed=config.training.seed,
        crop=config.crop_size,
        augment=config.data.augment,
        keep_shape=config.training.batch_size > 1,
    )


def build_batches(config: ExperimentConfig, num_samples: int, first_batch: int) -> ShuffledBatches:
    """Return the order of the training batches, from ``first_batch`` on."""
    return ShuffledBatches(
        num_samples,
        config.training.batch_size,
        config.training.epochs,
        config.training.seed,
        first_batch,
    )
