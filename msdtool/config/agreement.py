"""Keys that must fit each other; what each allows on its own is in the schema."""

from collections.abc import Iterator

from msdtool.architecture import MAX_WEIGHTS
from msdtool.border import largest_dilation
from msdtool.config.data_schema import DataConfig, GeometryConfig
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

PIXEL_LOSSES = ("L1", "L2", "Huber")
"""Losses in which each pixel counts on its own."""

Problem = tuple[str, str]
"""A key and what is wrong with it."""


def multiscale_window(scales: int) -> int:
    """The smallest side of an image that has so many scales: the coarsest one holds the window."""
    return SSIM_WINDOW * 2 ** (scales - 1)


def size_for_loss(training: TrainingConfig) -> tuple[int, str]:
    """The smallest side of an image that the loss can measure, and why; (1, "") if any can be."""
    if "MS-SSIM" in training.loss_terms:
        size = multiscale_window(training.ms_ssim_scales)
        return size, (
            f"MS-SSIM, in training.loss, needs at least {size} pixels with "
            f"training.ms_ssim_scales: {training.ms_ssim_scales}"
        )
    if "SSIM" in training.loss_terms:
        return SSIM_WINDOW, f"SSIM, in training.loss, needs at least {SSIM_WINDOW} pixels"
    return 1, ""


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
        *_blind_spots(task, data, network.ndim, training),
        *_unused(task, network, training),
        *_size(network),
        *_stream(data, network, stream),
        *_windows(data, network, stream, training),
        *_samples(data, network.ndim),
        *_foreground(task, data),
        *_graphs(network, training),
        *_initial(network, training),
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


def _blind_spots(
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


def _unused(task: str, network: NetworkConfig, training: TrainingConfig) -> Iterator[Problem]:
    """Keys that differ from their default although nothing would read them."""
    terms = training.loss_terms
    uses = {
        "huber_delta": ("loss: Huber", "Huber" in terms),
        "ssim_weight": ("a loss with SSIM", str(training.loss).endswith("+SSIM")),
        "ms_ssim_scales": ("loss: MS-SSIM", "MS-SSIM" in terms),
        "top_k_fraction": ("loss: top_k", "top_k" in terms),
        "focal_gamma": ("loss: focal", "focal" in terms),
        "tversky_alpha": ("loss: tversky", "tversky" in terms),
        "tversky_beta": ("loss: tversky", "tversky" in terms),
        "plateau_patience": ("schedule: plateau", training.schedule == "plateau"),
        "initial_sha256": ("training.initial", training.initial is not None),
        "initial_normalisation": ("training.initial", training.initial is not None),
        "freeze": ("training.initial", training.initial is not None),
    }
    for key, (user, used) in uses.items():
        if not used and getattr(training, key) != type(training).model_fields[key].default:
            yield f"training.{key}", f"only {user} uses it; remove it"
    if network.features is not None and not network.head:
        yield "network.features", "only network.head uses it; remove it"
    is_weighted = training.class_weights is not None and task == "segmentation"
    if is_weighted and not {"cross_entropy", "focal"} & terms.keys():
        yield (
            "training.class_weights",
            "only cross_entropy and focal use it; remove it or change the loss",
        )


def _size(network: NetworkConfig) -> Iterator[Problem]:
    depth, width = network.depth, network.width
    weights = 3**network.ndim * width**2 * depth * (depth + 1) // 2  # of one input channel
    if weights > MAX_WEIGHTS:
        yield (
            "network.width",
            f"{width}, with network.depth {depth}, needs {weights:.2g} weights; at most "
            f"{MAX_WEIGHTS:.0g} are supported. MSD networks are narrow: choose a smaller one",
        )


def _stream(
    data: DataConfig, network: NetworkConfig, stream: StreamConfig | None
) -> Iterator[Problem]:
    if stream is None:
        return
    if network.ndim != 3:
        yield "network.ndim", "stream needs 3: it treats volumes as image sequences"
    if data.augment and (stream.axis != 0 or data.augment != "in_plane"):
        yield "data.augment", "would mix time and space; set in_plane, with stream.axis: 0"
    if data.geometry is not None and (stream.axis != 0 or not data.geometry.in_plane):
        yield (
            "data.geometry.in_plane",
            "must be true, with stream.axis: 0, or time and space would mix",
        )


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
    needed, why = size_for_loss(training)
    if min(size) < needed:
        yield key, why


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
    if data.geometry is not None:
        yield from _geometry(data.geometry, ndim)
    if data.intensity is not None and not any(data.intensity.model_dump().values()):
        keys = ", ".join(type(data.intensity).model_fields)
        yield "data.intensity", f"is empty; give some of {keys}, or remove it"


def _geometry(geometry: GeometryConfig, ndim: int) -> Iterator[Problem]:
    if not (geometry.rotation or geometry.scale or geometry.elastic):
        yield (
            "data.geometry",
            "changes nothing; give some of rotation, scale, elastic, or remove it",
        )
    if geometry.in_plane and ndim == 2:
        yield "data.geometry.in_plane", "is for network.ndim: 3; remove it"
    sigma = geometry.elastic_sigma
    if geometry.elastic is None and sigma != type(geometry).model_fields["elastic_sigma"].default:
        yield "data.geometry.elastic_sigma", "only elastic uses it; remove it"
    if geometry.elastic is not None and geometry.elastic[1] > sigma / 2:
        yield (
            "data.geometry.elastic",
            f"{geometry.elastic[1]:g} is more than half of elastic_sigma, {sigma:g}: the image "
            "would fold over itself; lower the one or raise the other",
        )


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


def _initial(network: NetworkConfig, training: TrainingConfig) -> Iterator[Problem]:
    """Only parts that the network has can be frozen."""
    for key, layers in (("stem", network.stem), ("head", network.head)):
        if key in training.freeze and not layers:
            yield "training.freeze", f"{key}: network.{key} has no layers; remove it"
    if training.frozen_layers(network.depth) > network.depth:
        yield (
            "training.freeze",
            f"block: got {training.frozen_layers(network.depth)} layers; network.depth is "
            f"{network.depth}",
        )
