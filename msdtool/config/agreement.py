"""Keys that must fit each other; what each allows on its own is in the schema."""

from collections.abc import Iterator

from msdtool.border import largest_dilation
from msdtool.config.data_schema import DataConfig
from msdtool.config.schema import (
    LOSS_TERMS,
    LOSSES,
    NetworkConfig,
    StreamConfig,
    TrainingConfig,
)
from msdtool.wording import choices

SSIM_WINDOW = 11
"""Side of the window of SSIM, in pixels (Wang et al., IEEE TIP 2004)."""

Problem = tuple[str, str]
"""A key and what is wrong with it."""


def find_problems(
    task: str,
    data: DataConfig,
    network: NetworkConfig,
    stream: StreamConfig | None,
    training: TrainingConfig,
) -> list[Problem]:
    """Return what does not fit together in the sections of an experiment."""
    return [
        *_loss(task, training),
        *(_segmentation(data, training) if task == "segmentation" else _regression(data, training)),
        *_splits(task, data),
        *_unused(task, network, training),
        *_stream(data, network, stream),
        *_windows(data, network, stream, training),
        *_samples(data, network.ndim),
        *_foreground(task, data),
        *_graphs(network, training),
    ]


def _loss(task: str, training: TrainingConfig) -> Iterator[Problem]:
    loss, losses, terms = training.loss, LOSSES[task], LOSS_TERMS[task]
    if isinstance(loss, str) and loss not in losses:
        yield "training.loss", f"got {loss!r}; allowed for {task}: {', '.join(losses)}"
    if isinstance(loss, list):
        for name in training.loss_terms:
            if name not in terms:
                yield (
                    "training.loss",
                    f"in a list for {task}: got {name!r}{choices(name, terms)}",
                )


def _segmentation(data: DataConfig, training: TrainingConfig) -> Iterator[Problem]:
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
    if data.data_range is not None:
        yield "data.data_range", "only regression uses it; remove it"
    if data.ignore is not None and data.ignore in data.label_values:
        yield (
            "data.ignore",
            f"{data.ignore} is also one of data.labels; choose a value that is not a label",
        )


def _regression(data: DataConfig, training: TrainingConfig) -> Iterator[Problem]:
    for key, value in (
        ("data.labels", data.labels),
        ("data.ignore", data.ignore),
        ("training.class_weights", training.class_weights),
    ):
        if value is not None:
            yield key, "only segmentation uses it; remove it or set task: segmentation"


def _splits(task: str, data: DataConfig) -> Iterator[Problem]:
    train, validation = data.train, data.validation
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


def _unused(task: str, network: NetworkConfig, training: TrainingConfig) -> Iterator[Problem]:
    """Keys that differ from their default although nothing would read them."""
    uses = {
        "huber_delta": ("loss: Huber", "Huber" in training.loss_terms),
        "ssim_weight": ("a loss with SSIM", str(training.loss).endswith("SSIM")),
        "plateau_patience": ("schedule: plateau", training.schedule == "plateau"),
    }
    for key, (user, used) in uses.items():
        if not used and getattr(training, key) != type(training).model_fields[key].default:
            yield f"training.{key}", f"only {user} uses it; remove it"
    if network.features is not None and not network.head:
        yield "network.features", "only network.head uses it; remove it"
    is_weighted = training.class_weights is not None and task == "segmentation"
    if is_weighted and "cross_entropy" not in training.loss_terms:
        yield "training.class_weights", "only cross_entropy uses it; remove it or change the loss"


def _stream(
    data: DataConfig, network: NetworkConfig, stream: StreamConfig | None
) -> Iterator[Problem]:
    if stream is None:
        return
    if network.ndim != 3:
        yield "network.ndim", "stream needs 3: it treats volumes as image sequences"
    if data.augment and (stream.axis != 0 or data.augment != "in_plane"):
        yield "data.augment", "would mix time and space; set in_plane, with stream.axis: 0"


def _windows(
    data: DataConfig, network: NetworkConfig, stream: StreamConfig | None, training: TrainingConfig
) -> Iterator[Problem]:
    validation, crop = data.validation, data.crop_size(network.ndim)
    yield from _window("data.crop", crop, network, stream, training)
    if validation is None:
        return
    patch, overlap = validation.patch_size(network.ndim), validation.patch_overlap(network.ndim)
    yield from _window("data.validation.patch", patch, network, stream, training)
    if patch is None and validation.overlap is not None:
        yield "data.validation.overlap", "only patch uses it; remove it"
    elif patch is not None and overlap >= min(patch):
        yield (
            "data.validation.overlap",
            f"{overlap} is not smaller than the patch, {min(patch)}",
        )


def _window(
    key: str,
    size: tuple[int, ...] | None,
    network: NetworkConfig,
    stream: StreamConfig | None,
    training: TrainingConfig,
) -> Iterator[Problem]:
    """A window needs a size per axis that leaves room for dilations and for the SSIM window."""
    if size is None:
        return
    if len(size) != network.ndim:
        yield key, f"got {len(size)} sizes; network.ndim is {network.ndim}"
        return
    smallest = min(size if stream is None else stream.frame_size(size))
    reach = max(network.dilations[: network.depth])
    limit = largest_dilation(smallest, network.padding)
    if limit is not None and reach > limit:
        yield (
            key,
            f"{smallest} is too small for the dilation {reach} in network.dilations with "
            f"{network.padding} padding",
        )
    if "SSIM" in training.loss_terms and min(size) < SSIM_WINDOW:
        yield key, f"SSIM, in training.loss, needs at least {SSIM_WINDOW} pixels"


def _samples(data: DataConfig, ndim: int) -> Iterator[Problem]:
    if data.slab and ndim == 3:
        yield (
            "data.slab",
            "is for network.ndim: 2; a network with ndim: 3 sees the neighbouring slices anyway, "
            "so remove it",
        )
    if data.augment == "in_plane" and ndim == 2:
        yield "data.augment", "in_plane is for network.ndim: 3; set true"
    if data.crop is None and data.crops_per_image != 1:
        yield "data.crops_per_image", "only data.crop uses it; remove it"
    if data.crop is None and data.foreground is not None:
        yield "data.foreground", "only data.crop uses it; remove it"
    if data.intensity is not None and not any(data.intensity.model_dump().values()):
        keys = ", ".join(type(data.intensity).model_fields)
        yield "data.intensity", f"is empty; give some of {keys}, or remove it"


def _foreground(task: str, data: DataConfig) -> Iterator[Problem]:
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


def _graphs(network: NetworkConfig, training: TrainingConfig) -> Iterator[Problem]:
    if not training.cuda_graphs:
        return
    if training.accumulate > 1:
        yield (
            "training.cuda_graphs",
            "every backward pass overwrites the gradients of the previous one, so they cannot be "
            "accumulated; set training.accumulate: 1",
        )
    for key, layers in (("stem", network.stem), ("head", network.head)):
        if layers:
            yield (
                "training.cuda_graphs",
                f"only the MSD network itself can be captured; remove network.{key} or this key",
            )
