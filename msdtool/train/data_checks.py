"""What training would fail on, found in the data before anything is written."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from msdtool.architecture import Architecture
from msdtool.config import ExperimentConfig, size_for_loss
from msdtool.data import Pairs
from msdtool.data.labels import IGNORED
from msdtool.data.pairing import finite_sample
from msdtool.data.patches import BLOCK_PIXELS, blocks
from msdtool.errors import InputError
from msdtool.ops.checks import check_dilations
from msdtool.train.normalise import nothing_counts
from msdtool.wording import perhaps_opacity, size_text


class Sized(NamedTuple):
    """The spatial shape of an image, and its name."""

    space: tuple[int, ...]
    name: str


def check_data(
    config: ExperimentConfig,
    architecture: Architecture,
    train: Pairs,
    validation: Pairs | None,
    on_image: Callable[[], None],
) -> None:
    """Check the sizes of all images, and read the validation images once.

    Training images are read when they are measured. The number of pixels that count is checked
    here, since without one every epoch would be perfect.

    Args:
        config: the experiment.
        architecture: of the network.
        train, validation: the data sets.
        on_image: called before each image that is read; may raise to stop.

    Raises:
        InputError: training would fail on an image, or no pixel counts.
    """
    for problem in size_problems(config, train, validation):
        raise InputError(problem)
    if validation is None:
        return
    counts = False
    for index in validation.to_measure():
        on_image()
        for window in blocks(validation.space(index), BLOCK_PIXELS):
            sample = finite_sample(validation, index, window, central_only=True)
            thickness = 2 * config.data.slab + 1
            _check_channels(
                validation.name(index),
                "image",
                thickness * sample.input.shape[0],
                "takes",
                architecture.c_in,
            )
            if config.num_labels:
                counts = counts or bool((sample.target != IGNORED).any())
            else:
                target = sample.target.shape[0]
                name = validation.target_name(index)
                outputs = architecture.c_out // config.output_groups
                _check_channels(name, "target", target, "outputs", outputs)
                counts = counts or sample.mask is None or bool(sample.mask.any())
    if not counts:
        raise InputError(nothing_counts(config, "validation"))


def _check_channels(name: str, kind: str, found: int, verb: str, expected: int) -> None:
    if found != expected:
        opacity = perhaps_opacity(found, expected) if kind == "image" else ""
        raise InputError(
            f"{name}: the {kind} has {found} channels, the network {verb} {expected}{opacity}"
        )


def size_problems(
    config: ExperimentConfig, train: Pairs, validation: Pairs | None
) -> Iterator[str]:
    """Yield why images of these sizes do not fit the crop, the batch, the loss or a dilation."""
    training = _sizes(train)
    others = [] if validation is None else _sizes(validation)
    crop = config.crop_size
    if crop is not None:
        yield from _larger_than_crop(training, crop)
    elif config.training.batch_size > 1 and len({image.space for image in training}) > 1:
        yield (
            f"training images have {len({image.space for image in training})} sizes, which need "
            "training.batch_size: 1, or data.crop"
        )
    needed, why = size_for_loss(config.training)
    seen = [*training, *others]
    small = [image for image in seen if min(image.space) < needed]
    if crop is None and small:
        smallest = min(small, key=lambda image: min(image.space))
        yield f"{smallest.name}: is {min(smallest.space)} pixels wide or high; {why}"
    used = config.network.dilations[: config.network.depth]
    for image in seen:
        try:
            check_dilations(used, config.convolved(image.space), config.network.padding)
        except ValueError as error:
            yield f"{image.name}: {error}; choose smaller network.dilations"
            return


def _larger_than_crop(images: list[Sized], crop: tuple[int, ...]) -> Iterator[str]:
    """Say once which crop fits: padding would fill windows with pixels that do not count."""
    small = [image for image in images if any(map(int.__lt__, image.space, crop))]
    if small:
        fits = [min(sizes) for sizes in zip(*(image.space for image in images), strict=True)]
        yield (
            f"{len(small)} of {len(images)} training images are smaller than data.crop "
            f"{size_text(crop)}, such as {small[0].name} with {size_text(small[0].space)} pixels; "
            f"the largest crop that fits all is {fits}"
        )


def _sizes(pairs: Pairs) -> list[Sized]:
    """The sizes of the inputs; held-out slices make volumes smaller."""
    sizes: list[Sized] = []
    for index in pairs.to_measure():
        with suppress(InputError):  # reported when the file is read
            sizes.append(Sized(pairs.space(index), pairs.name(index)))
    return sizes
