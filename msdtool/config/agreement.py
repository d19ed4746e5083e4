"""Keys that must fit each other: what each alone allows, `msdtool.config.schema` says."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from msdtool.config.wording import choices

if TYPE_CHECKING:
    from msdtool.config.schema import ExperimentConfig

SSIM_WINDOW = 11
"""Pixels on a side of the window that SSIM looks through (Wang et al., IEEE TIP 2004)."""

Problem = tuple[str, str]
"""A key and what is wrong with it."""


def find_problems(
    config: "ExperimentConfig", losses: tuple[str, ...], terms: tuple[str, ...]
) -> list[Problem]:
    """Return what does not fit together.

    Args:
        config: the experiment.
        losses: those of its task.
        terms: those of its task that can stand in a list.
    """
    task_problems = _segmentation if config.task == "segmentation" else _regression
    return [
        *_loss(config, losses, terms),
        *task_problems(config),
        *_splits(config),
        *_unused(config),
        *_stream(config),
        *_windows(config),
        *_samples(config),
        *_foreground(config),
        *_graphs(config),
    ]


def _loss(
    config: "ExperimentConfig", losses: tuple[str, ...], terms: tuple[str, ...]
) -> Iterator[Problem]:
    loss = config.training.loss
    if isinstance(loss, str) and loss not in losses:
        yield "training.loss", f"got {loss!r}; allowed for {config.task}: {', '.join(losses)}"
    if isinstance(loss, list):
        for name in config.training.loss_terms:
            if name not in terms:
                yield (
                    "training.loss",
                    f"in a list for {config.task}: got {name!r}{choices(name, terms)}",
                )


def _segmentation(config: "ExperimentConfig") -> Iterator[Problem]:
    data, weights = config.data, config.training.class_weights
    if data.labels is None:
        yield (
            "data.labels",
            "missing, and segmentation needs it: the number of labels k, or the list of label "
            "values in the target images",
        )
    elif isinstance(weights, list) and len(weights) != config.num_labels:
        yield (
            "training.class_weights",
            f"got {len(weights)} weights for {config.num_labels} labels",
        )
    if data.data_range is not None:
        yield "data.data_range", "only regression uses it; remove it"
    if data.ignore is not None and data.ignore in config.label_values:
        yield (
            "data.ignore",
            f"{data.ignore} is also one of data.labels; choose a value that is not a label",
        )


def _regression(config: "ExperimentConfig") -> Iterator[Problem]:
    for key, value in (
        ("data.labels", config.data.labels),
        ("data.ignore", config.data.ignore),
        ("training.class_weights", config.training.class_weights),
    ):
        if value is not None:
            yield key, "only segmentation uses it; remove it or set task: segmentation"


def _splits(config: "ExperimentConfig") -> Iterator[Problem]:
    train, validation = config.data.train, config.data.validation
    if train.splits is None:
        if train.strategy != "X:1":
            yield "data.train.strategy", "only splits use it; remove it"
        if validation is not None and validation.splits is not None:
            yield "data.validation.splits", "only training on data.train.splits uses them"
        return
    if config.task != "regression":
        yield "data.train.splits", "are for task: regression"
    for name in ("input", "target"):
        if getattr(train, name) is not None:
            yield f"data.train.{name}", "splits take its place; remove one of them"
        if validation is not None and getattr(validation, name) is not None:
            yield (
                f"data.validation.{name}",
                "training on splits is validated on splits, a fraction or slices; evaluate with "
                "'msdtool evaluate' where there are clean images",
            )
    if validation is not None and len(validation.splits or train.splits) != len(train.splits):
        yield (
            "data.validation.splits",
            f"got {len(validation.splits or [])}; data.train.splits are {len(train.splits)}",
        )


def _unused(config: "ExperimentConfig") -> Iterator[Problem]:
    """Keys that were changed and that nothing would read."""
    training = config.training
    uses = {
        "huber_delta": ("loss: Huber", "Huber" in training.loss_terms),
        "ssim_weight": ("a loss with SSIM", str(training.loss).endswith("SSIM")),
        "plateau_patience": ("schedule: plateau", training.schedule == "plateau"),
    }
    for key, (user, used) in uses.items():
        if not used and getattr(training, key) != type(training).model_fields[key].default:
            yield f"training.{key}", f"only {user} uses it; remove it"
    if config.network.features is not None and not config.network.head:
        yield "network.features", "only network.head uses it; remove it"
    is_weighted = training.class_weights is not None and config.task == "segmentation"
    if is_weighted and "cross_entropy" not in training.loss_terms:
        yield "training.class_weights", "only cross_entropy uses it; remove it or change the loss"


def _stream(config: "ExperimentConfig") -> Iterator[Problem]:
    if config.stream is None:
        return
    if config.network.ndim != 3:
        yield "network.ndim", "stream needs 3: the volumes that it takes for series of frames"
    if config.data.augment and (config.stream.axis != 0 or config.data.augment != "in_plane"):
        yield "data.augment", "would turn time into space; set in_plane, with stream.axis: 0"


def _windows(config: "ExperimentConfig") -> Iterator[Problem]:
    validation = config.data.validation
    yield from _window(config, "data.crop", config.data.crop, config.crop_size)
    if validation is None:
        return
    yield from _window(config, "data.validation.patch", validation.patch, config.patch_size)
    if config.patch_size is None and validation.overlap is not None:
        yield "data.validation.overlap", "only patch uses it; remove it"
    elif config.patch_size is not None and config.patch_overlap >= min(config.patch_size):
        yield (
            "data.validation.overlap",
            f"{config.patch_overlap} is not smaller than the patch, {min(config.patch_size)}",
        )


def _window(
    config: "ExperimentConfig",
    key: str,
    given: int | list[int] | None,
    size: tuple[int, ...] | None,
) -> Iterator[Problem]:
    """A window needs a size per axis, and one that dilations and SSIM's window fit in."""
    network = config.network
    if given is None or size is None:
        return
    if len(size) != network.ndim:
        yield key, f"got {len(size)} sizes; network.ndim is {network.ndim}"
        return
    smallest = min(config.convolved(size))
    reach = max(network.dilations[: network.depth])
    limit = smallest if network.padding == "symmetric" else smallest - 1
    if network.padding != "zeros" and reach > limit:
        yield (
            key,
            f"{smallest} is too small for the dilation {reach} in network.dilations with "
            f"{network.padding} padding",
        )
    if "SSIM" in config.training.loss_terms and min(size) < SSIM_WINDOW:
        yield key, f"SSIM, in training.loss, needs at least {SSIM_WINDOW} pixels"


def _samples(config: "ExperimentConfig") -> Iterator[Problem]:
    data, ndim = config.data, config.network.ndim
    if data.slab and ndim == 3:
        yield (
            "data.slab",
            "is for network.ndim: 2; a network with ndim: 3 sees the neighbouring slices by "
            "itself, so remove it",
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


def _foreground(config: "ExperimentConfig") -> Iterator[Problem]:
    foreground = config.data.foreground
    if foreground is None:
        return
    if config.task == "segmentation":
        if foreground.above is not None:
            yield "data.foreground.above", "only regression uses it; name labels instead"
        unknown = [label for label in foreground.labels or [] if label not in config.label_values]
        if unknown:
            yield (
                "data.foreground.labels",
                f"{', '.join(map(str, unknown))}: not among data.labels",
            )
        return
    if foreground.labels is not None:
        yield "data.foreground.labels", "only segmentation uses it; give above instead"
    elif foreground.above is None and config.data.train.mask is None:
        yield (
            "data.foreground.above",
            "missing: the target value above which a pixel is foreground, unless there is a "
            "data.train.mask",
        )


def _graphs(config: "ExperimentConfig") -> Iterator[Problem]:
    if not config.training.cuda_graphs:
        return
    if config.training.accumulate > 1:
        yield (
            "training.cuda_graphs",
            "every backward pass overwrites the gradients of the one before, so there is nothing "
            "to accumulate; set training.accumulate: 1",
        )
    for key, layers in (("stem", config.network.stem), ("head", config.network.head)):
        if layers:
            yield (
                "training.cuda_graphs",
                f"only the MSD network itself can be captured; remove network.{key} or this key",
            )
