"""Keys that must fit each other; what each allows on its own is in the schema."""

from collections.abc import Iterator

from msdtool.config.data_schema import DataConfig, GeometryConfig
from msdtool.config.loss_names import LOSS_TERMS, LOSSES
from msdtool.config.schema import (
    NetworkConfig,
    StreamConfig,
    TrainingConfig,
)
from msdtool.config.section import Problem
from msdtool.config.sizes import network_size, windows
from msdtool.config.targets import (
    blind_spots,
    foreground,
    regression,
    segmentation,
    selection,
    splits,
)
from msdtool.wording import choices


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
        *(segmentation(data, training) if task == "segmentation" else regression(data, training)),
        *data.normalisation.problems(task),
        *splits(task, data),
        *blind_spots(task, data, network.ndim, training),
        *selection(task, data, training),
        *_unused(task, network, training),
        *network_size(network),
        *_stream(data, network, stream),
        *windows(data, network, stream, training),
        *_samples(data, network.ndim),
        *foreground(task, data),
        *(graph_problems(network, training) if training.cuda_graphs else ()),
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


def graph_problems(network: NetworkConfig, training: TrainingConfig) -> Iterator[Problem]:
    """What keeps steps from being CUDA graphs."""
    if training.accumulate > 1:
        yield (
            "training.cuda_graphs",
            "every backward pass overwrites the gradients of the previous one, so they cannot be "
            "accumulated; set training.accumulate: 1",
        )
    if training.precision in ("bf16", "fp16"):
        yield (
            "training.cuda_graphs",
            f"graphs are captured in float32 or tf32, training.precision is {training.precision}; "
            "change one of them",
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
