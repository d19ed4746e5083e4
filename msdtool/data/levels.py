"""Images that are scaled by levels of their own: measuring these, applying and undoing them.

The levels of an image are those of all of its pixels, so that a crop, a strip or a region of it is
scaled like the whole. All slices of a slab are scaled by the levels of its central slice: they
keep their relation to it, and the result of a slice does not depend on which others there are.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from msdtool.data.interfaces import Sample
from msdtool.data.moments import Moments
from msdtool.data.percentiles import percentiles
from msdtool.errors import InputError
from msdtool.scaling import Scaling


def measure_levels(
    scaling: Scaling, read: Callable[[], Iterable[Tensor]], channels: int, name: str
) -> Tensor:
    """Return what is subtracted from the values of an image, and what they are divided by then.

    Args:
        scaling: what these are, per image.
        read: returns the whole image in blocks [C, *space] of finite values; called twice for
            percentiles.
        channels: C.
        name: what errors call the image.

    Returns:
        [2, C], float64.

    Raises:
        InputError: a channel is constant, or both percentiles of it are one value.
    """
    if scaling.method == "percentile":
        low, high = percentiles(
            lambda: (block.flatten(1).numpy() for block in read()),
            channels,
            scaling.percentiles,
        )
        shift, scale = low, high - low
        percents = " and ".join(f"{percent:g}" for percent in scaling.percentiles)
        what = f"the percentiles {percents} of its values are both"
    else:
        moments = Moments()
        for block in read():
            moments.add(block.flatten(1).numpy().astype(np.float64))
        shift, scale, what = moments.mean, moments.spread, "every pixel has the value"
    for channel in np.flatnonzero(scale <= 0)[:1]:
        which = f"channel {channel} (from 0): " if channels > 1 else ""
        raise InputError(
            f"{name}: {which}{what} {shift[channel]:g}, so that it has no contrast to normalise by "
            "(data.normalisation.per: image); leave the image out, or train a network that "
            "normalises by other percentiles or the statistics of the data set"
        )
    return torch.from_numpy(np.stack([shift, scale]))


def scaled(image: Tensor, levels: Tensor) -> Tensor:
    """Scale images by their levels.

    Args:
        image: [C', *space], or a batch of such; C' is a multiple of C, as of slabs.
        levels: [2, C], or a batch of such.
    """
    shift, scale = _factors(image, levels)
    return (image - shift) / scale


def unscaled(image: Tensor, levels: Tensor) -> Tensor:
    """Undo `scaled`."""
    shift, scale = _factors(image, levels)
    return image * scale + shift


def _factors(image: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    shift, scale = levels.to(image).unbind(-2)
    axis = shift.dim() - 1
    repeats = image.shape[axis] // shift.shape[-1]
    shape = (*image.shape[: axis + 1], *(1,) * (image.dim() - axis - 1))
    factors = [factor.repeat(*(1,) * axis, repeats) for factor in (shift, scale)]
    return factors[0].reshape(shape), factors[1].reshape(shape)


def in_own_scale(sample: Sample) -> Sample:
    """Scale the input, and the target, of a sample or a batch by the levels that these have."""
    if sample.levels is None:
        return sample
    sample = sample._replace(input=scaled(sample.input, sample.levels))
    if sample.target_levels is None:
        return sample
    return sample._replace(target=scaled(sample.target, sample.target_levels))


def in_data_units(output: Tensor, sample: Sample) -> Tensor:
    """Return a network's output for `in_own_scale` of a sample, or a batch, in the data's units."""
    levels = sample.target_levels
    return output if levels is None else unscaled(output, levels)
