"""Keys that must fit each other: what each alone allows, `msdtool.config.schema` says."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from msdtool.config.schema import ExperimentConfig

SSIM_WINDOW = 11
"""Pixels on a side of the window that SSIM looks through (Wang et al., IEEE TIP 2004)."""

Problem = tuple[str, str]
"""A key and what is wrong with it."""


def find_problems(config: "ExperimentConfig", losses: tuple[str, ...]) -> list[Problem]:
    """Return what does not fit together; ``losses`` are those of the config's task."""
    task_problems = _segmentation if config.task == "segmentation" else _regression
    return [
        *_loss(config, losses),
        *task_problems(config),
        *_unused(config),
        *_crop(config),
        *_stream(config),
    ]


def _loss(config: "ExperimentConfig", losses: tuple[str, ...]) -> Iterator[Problem]:
    if config.training.loss not in losses:
        allowed = ", ".join(losses)
        yield "training.loss", f"got {config.training.loss!r}; allowed for {config.task}: {allowed}"


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


def _unused(config: "ExperimentConfig") -> Iterator[Problem]:
    """Keys that were changed and that nothing would read."""
    training = config.training
    uses = {
        "huber_delta": ("loss: Huber", training.loss == "Huber"),
        "ssim_weight": ("a loss with SSIM", training.loss.endswith("SSIM")),
        "plateau_patience": ("schedule: plateau", training.schedule == "plateau"),
    }
    for key, (user, used) in uses.items():
        if not used and getattr(training, key) != type(training).model_fields[key].default:
            yield f"training.{key}", f"only {user} uses it; remove it"
    if config.network.features is not None and not config.network.head:
        yield "network.features", "only network.head uses it; remove it"
    if training.class_weights is not None and training.loss == "dice":
        yield "training.class_weights", "only cross_entropy uses it; remove it or change the loss"


def _crop(config: "ExperimentConfig") -> Iterator[Problem]:
    crop, network = config.data.crop, config.network
    if isinstance(crop, list) and len(crop) != network.ndim:
        yield "data.crop", f"got {len(crop)} sizes; network.ndim is {network.ndim}"
    elif crop is not None and network.padding != "zeros":
        smallest = min(config.convolved(config.crop_size or ()))
        reach = max(network.dilations[: network.depth])
        limit = smallest if network.padding == "symmetric" else smallest - 1
        if reach > limit:
            yield (
                "data.crop",
                f"{smallest} is too small for the dilation {reach} in network.dilations with "
                f"{network.padding} padding",
            )
    smallest = min(config.crop_size or (SSIM_WINDOW,))
    if config.training.loss.endswith("SSIM") and smallest < SSIM_WINDOW:
        yield "data.crop", f"SSIM, in training.loss, needs at least {SSIM_WINDOW} pixels"


def _stream(config: "ExperimentConfig") -> Iterator[Problem]:
    if config.stream is None:
        return
    if config.network.ndim != 3:
        yield "network.ndim", "stream needs 3: the volumes that it takes for series of frames"
    if config.stream.axis != 0 and config.data.augment:
        yield "data.augment", "would turn time into space; it needs stream.axis: 0"
