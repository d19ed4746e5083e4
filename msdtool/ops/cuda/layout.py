"""How the images of a batch lie in the planes of the CUDA engines.

Planes are [C, B * rows * pitch], the images of a batch one after another. A row may have a halo on
both sides, so that a kernel reads beyond the border without asking, and whole vectors at a time
whatever the width of the image is (kernels/front.cu). Rows have none: kernels find those beyond the
border by the rule.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from msdtool.border import edge_width
from msdtool.ops.engine import BlockShape

VECTOR = 8  # elements; a row with a halo starts at a multiple of them
OVERRUN = 32  # elements that front.cu may read, and not use, behind the last row


@dataclass(frozen=True)
class Layout:
    """Places of pixels.

    Attributes:
        shape: sizes of the network and the batch.
        halo: columns on both sides of a row, a multiple of 4.
    """

    shape: BlockShape
    halo: int = 0

    @property
    def pitch(self) -> int:
        """Elements from one row to the next."""
        width = self.shape.space[-1]
        return -(-(width + 2 * self.halo) // VECTOR) * VECTOR if self.halo else width

    @property
    def slice_size(self) -> int:
        """Elements of one index of the outermost axis."""
        return math.prod(self.shape.space[1:-1]) * self.pitch

    @property
    def num_slices(self) -> int:
        """Of all images."""
        return self.shape.batch * self.shape.space[0]

    @property
    def plane(self) -> int:
        """Elements of a channel."""
        return self.num_slices * self.slice_size

    def new_planes(self, like: Tensor) -> Tensor:
        """Uninitialised channels, [C, plane]."""
        size = self.shape.num_channels * self.plane
        buffer = like.new_empty(size + (OVERRUN if self.halo else 0))
        return buffer[:size].view(self.shape.num_channels, self.plane)

    def images(self, planes: Tensor) -> Tensor:
        """View planes as [B, C, *space]."""
        *rows, width = self.shape.space
        whole = planes.view(len(planes), self.shape.batch, *rows, self.pitch)
        return whole[..., self.halo : self.halo + width].transpose(0, 1)

    def gradients_of(self, images: Tensor) -> Tensor:
        """Images [B, C, *space] as planes of their own, zeros in the halo."""
        if self.halo == 0:
            return images.transpose(0, 1).reshape(images.shape[1], self.plane)
        planes = images.new_zeros(images.shape[1], self.plane)
        self.images(planes).copy_(images)
        return planes

    def fill_halo(self, planes: Tensor) -> None:
        """Make the halo that of the input channels, and zeros in all others: kernels that write
        channels write their halo as far as the border rule names pixels."""
        if self.halo == 0:
            return
        width, edge = self.shape.space[-1], edge_width(self.shape.padding)
        rows = planes.view(len(planes), -1, self.pitch)
        start, stop = self.halo, self.halo + width
        rows[..., :start] = 0
        rows[..., stop:] = 0
        count = min(start, width - edge)  # mirrored columns
        if self.shape.padding == "zeros" or count == 0:
            return
        rows = rows[: self.shape.c_in]
        rows[..., start - count : start] = rows[..., start + edge : start + edge + count].flip(-1)
        rows[..., stop : stop + count] = rows[..., stop - edge - count : stop - edge].flip(-1)
