"""Tiles of the output that stay in cache, and what each of their taps reads."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from msdtool.ops.semifield.geometry import Geometry, Pixels

# Per thread. With fewer, calls of torch take longer than their work; with more, the three tensors
# that an operation reads and writes no longer fit the second-level cache.
VALUES_PER_THREAD = 65536
# Enough to keep a GPU busy.
VALUES_ON_GPU = 2**24


class Tile(NamedTuple):
    """Images, groups and output rows (of the first spatial axis) that are computed together."""

    images: slice
    groups: slice
    rows: range

    def of(self, outputs: Tensor) -> Tensor:
        """Return a view of this tile of a tensor [B, groups, out, *out_space]."""
        return outputs[self.images, self.groups, :, self.rows.start : self.rows.stop]


class Term(NamedTuple):
    """One term of the sums of a tile: a channel and a tap."""

    number: int  # channel * taps + tap
    pixels: Pixels  # of the tile, where the tap lies inside the image
    img: Tensor  # [images, groups, 1, *pixels]
    kernel: Tensor  # [groups, out, 1, ...]


def split_groups(img: Tensor, kernel: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
    """Return views [B, groups, in, *space] of an image and [groups, out, in, *K] of a kernel."""
    by_group = img.unflatten(1, (geometry.groups, geometry.in_channels))
    return by_group, kernel.unflatten(0, (geometry.groups, geometry.out_channels))


def tiles(img: Tensor, geometry: Geometry) -> Iterator[Tile]:
    """Divide the output of an image [B, ...] into tiles that suit its device."""
    limit = VALUES_ON_GPU if img.is_cuda else VALUES_PER_THREAD * torch.get_num_threads()
    batch, num_rows = len(img), geometry.out_space[0]
    row = geometry.out_channels * math.prod(geometry.out_space[1:])
    rows = min(num_rows, max(1, limit // row))
    groups = min(geometry.groups, max(1, limit // (row * num_rows)))
    images = min(batch, max(1, limit // (row * num_rows * geometry.groups)))
    for image in range(0, batch, max(images, 1)):
        for group in range(0, geometry.groups, groups):
            for first in range(0, num_rows, rows):
                yield Tile(
                    slice(image, image + images),
                    slice(group, group + groups),
                    range(first, min(first + rows, num_rows)),
                )


def terms(img: Tensor, kernel: Tensor, geometry: Geometry, tile: Tile) -> Iterator[Term]:
    """Yield the terms of a tile's sums, channel by channel.

    Args:
        img: [B, groups, in, *space].
        kernel: [groups, out, in, *K].
        geometry: the sizes of both.
        tile: what is computed.
    """
    images = img[tile.images, tile.groups]
    kernels = kernel[tile.groups].flatten(3)
    reads = [geometry.tap_slices(tap, tile.rows) for tap in geometry.offsets]
    planes = [None if read is None else images[read[1]] for read in reads]
    for channel in range(geometry.in_channels):
        for tap, (read, plane) in enumerate(zip(reads, planes, strict=True)):
            if read is None or plane is None:
                continue
            weights = kernels[:, :, channel, tap]
            yield Term(
                channel * geometry.num_taps + tap,
                read[0],
                plane[:, :, channel : channel + 1],
                weights.view(*weights.shape, *(1,) * geometry.ndim),
            )
