"""Data sets of an experiment; the only reader of the config in this package."""

from collections.abc import Sequence

from msdtool.config import ExperimentConfig, ImagePairs, ImageSource, ValidationData, parse_source
from msdtool.data.augment import Intensity
from msdtool.data.datasets import ImageDataset
from msdtool.data.foreground import Foreground
from msdtool.data.holdout import hold_out_fraction, hold_out_slices, patchwise, use_fraction
from msdtool.data.interfaces import Pairs
from msdtool.data.loaders import ShuffledBatches
from msdtool.data.samples import TrainingSamples
from msdtool.data.specifiers import Location, Source, expand
from msdtool.data.splits import SplitPairs


def build_datasets(config: ExperimentConfig) -> tuple[Pairs, Pairs | None]:
    """Return the training pairs, and the validation pairs if there are any.

    Raises:
        InputError: files are missing or cannot be paired.
    """
    data = config.data
    train = _dataset(config, data.train)
    validation: Pairs | None = None
    if data.validation is not None:
        if data.validation.fraction is not None:
            train, validation = hold_out_fraction(
                train, data.validation.fraction, config.training.seed
            )
        elif data.validation.slices is not None:
            ranges = [(start, stop) for start, stop in data.validation.slices]
            train, validation = hold_out_slices(train, ranges, config.network.ndim)
        else:
            validation = _dataset(config, data.validation)
        if config.patch_size is not None:
            validation = patchwise(validation, config.patch_size, config.patch_overlap)
    if data.fraction is not None:
        train = use_fraction(train, data.fraction, config.training.seed)
    return train, validation


def to_source(configured: str | list[str] | ImageSource) -> Source:
    """Return the images that a config names as the data package reads them."""
    if not isinstance(configured, ImageSource):
        return Source(configured)
    shape = None if configured.shape is None else tuple(configured.shape)
    return Source(configured.path, configured.axes, shape, configured.dtype)


def locate(texts: Sequence[str]) -> list[Location]:
    """Return the files that a command line names, each by a specifier or by {path: ..., axes: ...}.

    Raises:
        ConfigError: a mapping is wrong.
        InputError: a specifier names no file.
    """
    if not texts:
        return expand([])
    return [file for text in texts for file in expand(to_source(parse_source(text)))]


def _dataset(config: ExperimentConfig, source: ImagePairs | ValidationData) -> Pairs:
    pairs: Pairs
    if source.splits is not None:
        pairs = SplitPairs(
            [to_source(split) for split in source.splits],
            strategy=config.data.train.strategy,
            collapse_channels=config.data.collapse_channels,
            mask_path_specifier=None if source.mask is None else to_source(source.mask),
            ndim=config.network.ndim,
            slab=config.data.slab,
        )
    else:
        assert source.input is not None and source.target is not None
        pairs = ImageDataset(
            to_source(source.input),
            to_source(source.target),
            collapse_channels=config.data.collapse_channels,
            labels=config.data.labels,
            ignore=config.data.ignore,
            mask_path_specifier=None if source.mask is None else to_source(source.mask),
            ndim=config.network.ndim,
            slab=config.data.slab,
        )
    if config.data.cache:
        for stack in pairs.stacks().values():
            stack.keep_in_memory()
    return pairs


def build_samples(
    config: ExperimentConfig, pairs: Pairs, input_std: Sequence[float]
) -> TrainingSamples:
    """Return the training samples of the pairs.

    Args:
        config: the experiment.
        pairs: what to train on.
        input_std: standard deviation of the training inputs per channel, [C].
    """
    data, seed = config.data, config.training.seed
    foreground = None
    if data.foreground is not None:
        foreground = Foreground(
            pairs, seed=seed, labels=_foreground_indices(config), above=data.foreground.above
        )
    intensity = None
    if data.intensity is not None:
        ranges = data.intensity.model_dump(exclude_none=True)
        intensity = Intensity(input_std, **{key: tuple(value) for key, value in ranges.items()})
    return TrainingSamples(
        pairs,
        seed=seed,
        crop=config.crop_size,
        crops_per_image=data.crops_per_image,
        foreground=foreground,
        foreground_share=0.0 if data.foreground is None else data.foreground.share,
        augment=bool(data.augment),
        in_plane=data.augment == "in_plane",
        keep_shape=config.training.batch_size > 1,
        intensity=intensity,
    )


def _foreground_indices(config: ExperimentConfig) -> list[int]:
    """Class indices of the labels that are foreground; none for a regression."""
    assert config.data.foreground is not None
    labels = config.data.foreground.labels or config.label_values[1:]
    return [config.label_values.index(label) for label in labels]


def build_batches(config: ExperimentConfig, num_pairs: int, first_batch: int) -> ShuffledBatches:
    """Return the order of the training batches, from ``first_batch`` on."""
    return ShuffledBatches(
        num_pairs * config.data.crops_per_image,
        config.training.batch_size,
        config.training.epochs,
        config.training.seed,
        first_batch,
    )
