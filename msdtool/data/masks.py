"""Masks: which pixels of a target count."""

from torch import Tensor

from msdtool.data.patches import Window
from msdtool.data.specifiers import Specifier
from msdtool.data.stacks import ImageStack
from msdtool.errors import InputError


class MaskStack(ImageStack):
    """A stack of images, [1, *space] float32, that are not 0 where pixels count.

    Of an image with a palette the indices are read, as of labels. Reading raises InputError for a
    mask with NaN, which may stand for either.

    Args:
        path_specifier: see `ImageStack`.
        ndim: number of spatial axes of a mask, 2 or 3.
    """

    reads_indices = True

    def __init__(self, path_specifier: Specifier, *, ndim: int = 2) -> None:
        super().__init__(path_specifier, collapse_channels=True, ndim=ndim)

    def _read(self, index: int, window: Window | None) -> Tensor:
        mask = super()._read(index, window)
        count = int(mask.isnan().sum())
        if count:
            raise InputError(
                f"{self.name(index)}: {count} pixels of the mask are NaN; save it with 0 where "
                "pixels do not count and 1 where they do"
            )
        return mask
