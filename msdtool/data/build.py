"""Data sets of an experiment; the only reader of the config in this package."""

from collections.abc import Sequence
from typing import Any

from msdtool.config import (
    DataConfig,
    ExperimentConfig,
    GeometryConfig,
    ImagePairs,
    ImageSource,
    IntensityConfig,
    ValidationData,
    parse_source,
)
from msdtool.data.augment import Intensity
from msdtool.data.blind_spots import BlindPairs, BlindSpots
from msdtool.data.cut_out import CutOut
from msdtool.data.datasets import ImageDataset
from msdtool.data.foreground import Foreground
from msdtool.data.geometry import Geometry
from msdtool.data.holdout import hold_out_fraction, hold_out_slices, patchwise, use_fraction
from msdtool.data.interfaces import Pairs
from msdtool.data.loaders import ShuffledBatches
from msdtool.data.own_levels import PairsWithLevels
from msdtool.data.pairing import warn_if_same
from msdtool.data.samples import TrainingSamples
from msdtool.data.specifiers import Location, Source, expand
from msdtool.data.splits import SplitPairs


def build_datasets(config: ExperimentConfig) -> tuple[Pairs, Pairs | None]:
    """Return the training pairs, and the validation pairs if there are any.

    Raises:
        InputError: files are missing or cannot be paired.
    """
    data, ndim, seed = config.data, config.network.ndim, config.training.seed
    train = _dataset(data, data.train, ndim)
    validation: Pairs | None = None
    if data.validation is not None:
        if data.validation.fraction is not None:
            train, validation = hold_out_fraction(train, data.validation.fraction, seed)
        elif data.validation.slices is not None:
            ranges = [(start, stop) for start, stop in data.validation.slices]
            train, validation = hold_out_slices(train, ranges, ndim)
        else:
            validation = _dataset(data, data.validation, ndim)
        validation = _with_own_levels(config, validation)
        spots = _blind_spots(data)
        if spots is not None and data.validation.input is None:
            validation = BlindPairs(validation, spots, seed)
        patch = data.validation.patch_size(ndim)
        if patch is not None:
            validation = patchwise(validation, patch, data.validation.patch_overlap(ndim))
    if data.fraction is not None:
        train = use_fraction(train, data.fraction, seed)
    return _with_own_levels(config, train), validation


def _with_own_levels(config: ExperimentConfig, pairs: Pairs) -> Pairs:
    """The pairs, with levels of each image where it is scaled by its own."""
    scaling = config.data.normalisation.to_scaling()
    if not scaling.is_per_image:
        return pairs
    shared = config.task == "regression" and scaling.target == "input"
    return PairsWithLevels(pairs, scaling, with_target=shared)


def locate(texts: Sequence[str]) -> list[Location]:
    """Return the files that a command line names, each by a specifier or by {path: ..., axes: ...}.

    Raises:
        ConfigError: a mapping is wrong.
        InputError: a specifier names no file.
    """
    if not texts:
        return expand([])
    return [file for text in texts for file in expand(parse_source(text))]


def _source(configured: str | list[str] | ImageSource) -> Source:
    """The source that a key of the config names."""
    return configured.to_source() if isinstance(configured, ImageSource) else Source(configured)


def _dataset(data: DataConfig, images: ImagePairs | ValidationData, ndim: int) -> Pairs:
    pairs: Pairs
    mask = None if images.mask is None else _source(images.mask)
    repeats, kinds = images.splits, None
    if isinstance(images, ImagePairs) and images.swap:
        assert images.input is not None and images.target is not None
        repeats, kinds = [images.input, images.target], ("input", "target")
    if repeats is not None:
        pairs = SplitPairs(
            [_source(repeat) for repeat in repeats],
            strategy=data.train.strategy,
            collapse_channels=data.collapse_channels,
            mask_path_specifier=mask,
            ndim=ndim,
            slab=data.slab,
            kinds=kinds,
        )
    else:
        is_blind = images is data.train and data.train.blind_spot is not None
        target = images.input if is_blind else images.target
        assert images.input is not None and target is not None
        pairs = ImageDataset(
            _source(images.input),
            _source(target),
            collapse_channels=data.collapse_channels,
            labels=data.labels,
            ignore=data.ignore,
            mask_path_specifier=mask,
            ndim=ndim,
            slab=data.slab,
        )
        if not is_blind:
            warn_if_same(pairs.inputs, pairs.targets)
    if data.cache:
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
            pairs, seed=seed, labels=_foreground_indices(data), above=data.foreground.above
        )
    intensity = None
    if data.intensity is not None:
        intensity = Intensity(input_std, **_arguments(data.intensity))
    return TrainingSamples(
        pairs,
        seed=seed,
        crop=config.crop_size,
        crops_per_image=data.crops_per_image,
        foreground=foreground,
        foreground_fraction=0.0 if data.foreground is None else data.foreground.fraction,
        augment=bool(data.augment),
        in_plane=data.augment == "in_plane",
        keep_shape=config.training.batch_size > 1,
        geometry=None if data.geometry is None else Geometry(**_arguments(data.geometry)),
        intensity=intensity,
        blind_spots=_blind_spots(data),
        cut_out=None if data.cut_out is None else CutOut((data.cut_out[0], data.cut_out[1])),
    )


def _blind_spots(data: DataConfig) -> BlindSpots | None:
    """What is hidden of inputs that are their own targets."""
    found = data.train.blind_spot
    if found is None:
        return None
    return BlindSpots(
        found.fraction, found.radius, median=found.replacement == "median", mask=found.mask
    )


def _arguments(section: GeometryConfig | IntensityConfig) -> dict[str, Any]:
    """The values of a section that are set, its ranges as tuples."""
    values = section.model_dump(exclude_none=True)
    return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}


def _foreground_indices(data: DataConfig) -> list[int]:
    """Class indices of the labels that are foreground; none for a regression."""
    assert data.foreground is not None
    labels = data.foreground.labels or data.label_values[1:]
    return [data.label_values.index(label) for label in labels]


def build_batches(config: ExperimentConfig, num_pairs: int, first_batch: int) -> ShuffledBatches:
    """Return the order of the training batches, starting from batch ``first_batch``."""
    training = config.training
    return ShuffledBatches(
        num_pairs * config.data.crops_per_image,
        training.batch_size,
        training.epochs,
        training.seed,
        first_batch,
    )
