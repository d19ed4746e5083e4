"""Keys that say what the network learns from, and that must fit each other."""

from collections.abc import Iterator

from msdtool.config.data_schema import DataConfig
from msdtool.config.schema import TrainingConfig
from msdtool.config.section import Problem

PIXEL_LOSSES = ("L1", "L2", "Huber")
"""Losses in which each pixel counts on its own."""


def segmentation(data: DataConfig, training: TrainingConfig) -> Iterator[Problem]:
    weights, num_labels = training.class_weights, len(data.label_values)
    if data.labels is None:
        yield (
            "data.labels",
            "missing, and segmentation needs it: the number of labels k, or the list of label "
            "values in the target images",
        )
    elif isinstance(weights, list) and len(weights) != num_labels:
        yield (
            "training.class_weights",
            f"got {len(weights)} weights for {num_labels} labels",
        )
    for key, value in (
        ("data.data_range", data.data_range),
        ("training.interval", training.interval),
    ):
        if value is not None:
            yield key, "only regression uses it; remove it"
    if data.ignore is not None and data.ignore in data.label_values:
        yield (
            "data.ignore",
            f"{data.ignore} is also one of data.labels; choose a value that is not a label",
        )


def regression(data: DataConfig, training: TrainingConfig) -> Iterator[Problem]:
    for key, value in (
        ("data.labels", data.labels),
        ("data.ignore", data.ignore),
        ("training.class_weights", training.class_weights),
    ):
        if value is not None:
            yield key, "only segmentation uses it; remove it or set task: segmentation"


def splits(task: str, data: DataConfig) -> Iterator[Problem]:
    train, validation = data.train, data.validation
    if train.swap and task != "regression":
        yield "data.train.swap", "is for task: regression"
    if train.swap and train.splits is not None:
        yield "data.train.swap", "splits go in all directions anyway; remove it"
    if train.splits is None:
        if train.strategy != "X:1":
            yield "data.train.strategy", "only splits use it; remove it"
        if validation is not None and validation.splits is not None:
            yield "data.validation.splits", "only training on data.train.splits uses them"
        return
    if task != "regression":
        yield "data.train.splits", "are for task: regression"
    for name in ("input", "target"):
        if getattr(train, name) is not None:
            yield f"data.train.{name}", "splits replace it; remove one of them"
        if validation is not None and getattr(validation, name) is not None:
            yield (
                f"data.validation.{name}",
                "training on splits is validated on splits, a fraction or slices; if there are "
                "clean images, evaluate on them with 'msdtool evaluate'",
            )
    if validation is not None and len(validation.splits or train.splits) != len(train.splits):
        yield (
            "data.validation.splits",
            f"got {len(validation.splits or [])}; data.train.splits are {len(train.splits)}",
        )


def blind_spots(
    task: str, data: DataConfig, ndim: int, training: TrainingConfig
) -> Iterator[Problem]:
    train, key = data.train, "data.train.blind_spot"
    if train.blind_spot is None:
        return
    if task != "regression":
        yield key, "is for task: regression"
        return
    for other, value in (("splits", train.splits), ("target", train.target)):
        if value is not None:
            yield f"data.train.{other}", "blind_spot replaces it; remove one of them"
    if train.swap:
        yield "data.train.swap", "blind_spot has no pairs; remove one of them"
    if data.geometry is not None:
        yield (
            "data.geometry",
            "interpolation spreads the noise of a hidden pixel over its neighbours; remove it, or "
            "blind_spot. data.augment interpolates nothing",
        )
    for name in training.loss_terms:
        if name not in PIXEL_LOSSES:
            yield (
                "training.loss",
                f"got {name}; with blind_spot single pixels count: {', '.join(PIXEL_LOSSES)}",
            )
    if "Z" in train.blind_spot.mask and ndim == 2 and data.slab == 0:
        yield f"{key}.mask", "Z is for network.ndim: 3, or data.slab; remove it"


def selection(task: str, data: DataConfig, training: TrainingConfig) -> Iterator[Problem]:
    select, key = training.select, "training.select"
    if select == "loss":
        return
    if data.validation is None:
        yield key, f"got {select}, which needs images to validate on; set data.validation"
        return
    if data.validates_on_noise:
        allowed, whole = data.noise_scores, ["frc", "edges"]
        if select in whole and not allowed:
            yield (
                key,
                f"got {select}, which is of whole images; remove the mask and "
                "data.validation.patch, or select the loss",
            )
            return
    elif task == "segmentation":
        allowed = ["accuracy", "mean_iou", "mean_dice"]
    else:
        allowed = ["psnr", "ssim"]
    if select not in allowed:
        yield key, f"got {select}; allowed for this experiment: {', '.join(['loss', *allowed])}"


def foreground(task: str, data: DataConfig) -> Iterator[Problem]:
    foreground = data.foreground
    if foreground is None:
        return
    if task == "segmentation":
        if foreground.above is not None:
            yield "data.foreground.above", "only regression uses it; name labels instead"
        unknown = [label for label in foreground.labels or [] if label not in data.label_values]
        if unknown:
            yield (
                "data.foreground.labels",
                f"{', '.join(map(str, unknown))}: not among data.labels",
            )
        return
    if foreground.labels is not None:
        yield "data.foreground.labels", "only segmentation uses it; give above instead"
    elif foreground.above is None and data.train.mask is None:
        yield (
            "data.foreground.above",
            "missing: the target value above which a pixel is foreground, unless there is a "
            "data.train.mask",
        )
