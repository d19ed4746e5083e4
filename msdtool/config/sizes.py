"""Sizes that must fit each other: of windows, dilations, losses and networks."""

from collections.abc import Iterator

from msdtool.architecture import MAX_WEIGHTS
from msdtool.border import largest_dilation
from msdtool.config.data_schema import DataConfig
from msdtool.config.schema import NetworkConfig, StreamConfig, TrainingConfig
from msdtool.config.section import Problem

SSIM_WINDOW = 11
"""Side of the window of SSIM, in pixels (Wang et al., IEEE TIP 2004)."""


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


def network_size(network: NetworkConfig) -> Iterator[Problem]:
    depth, width = network.depth, network.width
    weights = 3**network.ndim * width**2 * depth * (depth + 1) // 2  # of one input channel
    if weights > MAX_WEIGHTS:
        yield (
            "network.width",
            f"{width}, with network.depth {depth}, needs {weights:.2g} weights; at most "
            f"{MAX_WEIGHTS:.0g} are supported. MSD networks are narrow: choose a smaller one",
        )


def windows(
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
