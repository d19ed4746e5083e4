"""Which axis of an array is which: one rule for all containers.

Letters: X, Y, Z space, C channels, S colour samples (also channels), T time or any other axis that
counts images. Names given by the user take precedence over those in the file (OME, ImageJ and TIFF
tags, dimension names of zarr and HDF5). Unnamed axes are filled from the last backwards in the
order X, Y, Z, C: three axes are ZYX, four are CZYX. If the last of them looks like the channels of
images, they must be named.

For a network of images, Z and T count images; for a network of volumes, T counts volumes, unless
there is no Z: then the time series is the volume, and T its first axis.
"""

import math
from dataclasses import dataclass
from functools import cached_property

from msdtool.data.containers.base import Array, Key
from msdtool.data.letters import UNNAMED
from msdtool.data.patches import Window
from msdtool.errors import InputError

FREE_LETTERS = "XYZC"
KNOWN_LETTERS = "XYZCST"
EXAMPLE = "{path: ..., axes: ZCYX}"
# An unnamed last axis of up to 4 is taken for colours rather than x, unless images are strips.
MAX_COLOURS, STRIP = 4, 8


@dataclass(frozen=True)
class Arrangement:
    """How images are arranged in an array.

    Attributes:
        axes: one letter per axis.
        shape: of the array.
        ndim: number of spatial axes of an image, 2 or 3.
    """

    axes: str
    shape: tuple[int, ...]
    ndim: int

    @cached_property
    def space(self) -> str:
        """The spatial axes of an image, "YX" or "ZYX"."""
        return "ZYX"[-self.ndim :]

    @cached_property
    def counting(self) -> list[int]:
        """The axes that count images."""
        return [axis for axis, letter in enumerate(self.axes) if letter not in "CS" + self.space]

    @cached_property
    def num_images(self) -> int:
        return math.prod(self.shape[axis] for axis in self.counting)

    @cached_property
    def image_shape(self) -> tuple[int, ...]:
        """[C, *space]"""
        channels = self._channels
        sizes = dict(zip(self.axes, self.shape, strict=True))
        return (sizes[channels] if channels else 1, *(sizes.get(s, 1) for s in self.space))

    @property
    def _channels(self) -> str:
        return next((letter for letter in self.axes if letter in "CS"), "")

    def key(self, index: int, window: Window | None = None) -> Key:
        """The part of the array that is image ``index``, or a window of it."""
        key: list[int | slice] = [slice(None)] * len(self.axes)
        for axis in reversed(self.counting):
            index, key[axis] = divmod(index, self.shape[axis])
        for letter, part in zip(self.space, window or (), strict=window is not None):
            if letter in self.axes:
                key[self.axes.index(letter)] = part
        return tuple(key)

    def to_image(self, array: Array) -> Array:
        """Bring the part that a `key` selects to [C, *space]."""
        letters = [self.axes[i] for i in range(len(self.axes)) if i not in self.counting]
        order = [letters.index(x) for x in self._channels + self.space if x in letters]
        array = array.transpose(order)
        if "Y" not in letters:
            array = array[..., None, :]  # a single row
        return array if self._channels else array[None]


def arrange(
    names: str, shape: tuple[int, ...], ndim: int, given: str | None, where: str
) -> Arrangement:
    """Find out how images are arranged in an array.

    Args:
        names: the letters in the file, `UNNAMED` where it has none.
        shape: of the array.
        ndim: number of spatial axes of an image, 2 or 3.
        given: the letters that the user gave, or None.
        where: the name of the array in error messages.

    Raises:
        InputError: the letters do not fit the array or the network.
    """
    if math.prod(shape) == 0:
        raise InputError(f"{where}: the image has no pixels, its shape is {shape}")
    if given is not None and len(given) != len(shape):
        raise InputError(
            f"{where}: axes: {given} names {len(given)} axes, the array has {len(shape)}, shape "
            f"{shape}; name each of them"
        )
    axes = given or _fill_in(names, shape, where)
    if ndim == 3 and "Z" not in axes:
        axes = axes.replace("T", "Z")
    missing = [letter for letter in "ZYX"[-ndim:] if letter not in axes]
    if missing and not (ndim == 2 and axes == "X"):
        hint = "save its slices as one file; for images, network.ndim is 2"
        if ndim == 2 or len(shape) >= ndim:
            hint = f"if these are not its axes, name them: {EXAMPLE}"
        raise InputError(
            f"{where}: the image has the axes {axes}, shape {shape}; "
            f"{'a volume needs Z, Y and X' if ndim == 3 else 'an image needs Y and X'}; {hint}"
        )
    if "C" in axes and "S" in axes:
        raise InputError(
            f"{where}: has both channels and colours, axes {axes}, shape {shape}; save one of them"
        )
    return Arrangement(axes, shape, ndim)


def _fill_in(names: str, shape: tuple[int, ...], where: str) -> str:
    """Assign a letter to each axis that has no known letter."""
    axes = [letter if letter in KNOWN_LETTERS else UNNAMED for letter in names.upper()]
    free = [letter for letter in FREE_LETTERS if letter not in axes]
    if "S" in axes and "C" in free:
        free.remove("C")
    for axis in reversed(range(len(axes))):
        if axes[axis] == UNNAMED or axes[axis] in axes[axis + 1 :]:
            if not free:
                raise InputError(
                    f"{where}: the image has {len(shape)} dimensions, shape {shape}, more than "
                    f"can be told apart; name them: {EXAMPLE}"
                )
            axes[axis] = free.pop(0)
    found = "".join(axes)
    _check_channels(found, names.upper(), shape, where)
    return found


def _check_channels(found: str, names: str, shape: tuple[int, ...], where: str) -> None:
    """Raise InputError if the last axis may be channels, though by the rule it is X."""
    for letters in ("CZYX", "ZYX"):
        if found.endswith(letters) and letters[0] not in names:
            if shape[-1] <= MAX_COLOURS and min(shape[-3:-1]) >= STRIP:
                raise InputError(
                    f"{where}: the last axis of the shape {shape} may be channels, and the file "
                    f"does not name it; say which: {{path: ..., axes: {found[: -len(letters)]}"
                    f"{letters[1:]}C}}, or axes: {found} if images are {shape[-1]} pixels wide"
                )
            return
