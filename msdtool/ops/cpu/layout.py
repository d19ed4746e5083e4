"""The border rule on a buffer of planes: layout, halo fill and its adjoint, mirrored runs.

Every plane of a buffer is stored row by row with a halo of ``margin`` pixels on both sides of the
last axis only. A shift along that axis, whatever the row, is then a shift of the flat plane,
so a tap of a convolution is one contiguous range of memory. The other axes have no halo: in 3D,
two more halos would multiply memory and arithmetic by 1.7 at 64^3. Along them the border rule is
applied to whole rows and slices (`mirrored_runs`, and `msdtool.ops.cpu.taps`).

Terms: "slice" is one index of the outermost axis (a row in 2D, a plane of rows in 3D).
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

from torch import Tensor

from msdtool.border import edge_width
from msdtool.ops.cpu.buffers import new_buffer

FLOATS_PER_CACHE_LINE = 16


def padded_stride(num_elements: int) -> int:
    """Round up to an odd number of cache lines: a power of two would make planes share cache sets.

    >>> padded_stride(512)
    528
    """
    lines = -(-num_elements // FLOATS_PER_CACHE_LINE)
    return (lines | 1) * FLOATS_PER_CACHE_LINE


@dataclass(frozen=True)
class Run:
    """Consecutive slices whose values one tap sends to consecutive slices.

    ``mirrored`` runs reach their targets in reverse order.
    """

    source: int
    target: int
    length: int
    mirrored: bool


@dataclass(frozen=True)
class Layout:
    """How an image [*space] lies in memory: one flat plane of `stride` elements per channel."""

    space: tuple[int, ...]
    margin: int
    padding: str

    @cached_property
    def pitch(self) -> int:
        """Elements from one row to the next."""
        return self.space[-1] + 2 * self.margin

    @cached_property
    def num_slices(self) -> int:
        return self.space[0]

    @cached_property
    def slice_size(self) -> int:
        """Elements from one slice to the next."""
        return self.pitch if len(self.space) == 2 else self.space[1] * self.pitch

    @cached_property
    def axis_steps(self) -> tuple[int, ...]:
        """Elements from one pixel to the next along each axis."""
        return (self.slice_size, self.pitch, 1) if len(self.space) == 3 else (self.pitch, 1)

    @cached_property
    def size(self) -> int:
        """Elements of a plane, halo included."""
        return self.num_slices * self.slice_size

    @cached_property
    def stride(self) -> int:
        """Elements from one plane to the next."""
        return padded_stride(self.size)

    def new_planes(self, *leading: int, like: Tensor) -> Tensor:
        """Uninitialised planes [*leading, size] with dtype and device of ``like``."""
        return new_buffer(*leading, self.stride, like=like)[..., : self.size]

    def rows(self, planes: Tensor) -> Tensor:
        """View planes [..., n * slice_size] as rows [..., n, (H,) pitch]."""
        num_slices = planes.shape[-1] // self.slice_size
        return planes.view(*planes.shape[:-1], num_slices, *self.space[1:-1], self.pitch)

    def interior(self, planes: Tensor) -> Tensor:
        """View planes [..., n * slice_size] as pixels [..., n, (H,) W], without the halo."""
        return self.rows(planes)[..., self.margin : self.margin + self.space[-1]]

    def load(self, planes: Tensor, pixels: Tensor) -> None:
        """Copy pixels [..., n, (H,) W] to planes [..., n * slice_size], with zeros in the halo."""
        rows = self.rows(planes)
        rows[..., : self.margin].zero_()
        rows[..., self.margin + self.space[-1] :].zero_()
        self.interior(planes).copy_(pixels)

    def fill_halo(self, planes: Tensor) -> None:
        """Write the halo of planes [..., n * slice_size] from their interior, in place."""
        rows = self.rows(planes)
        for halo, mirror in self._sides(rows):
            if self.padding == "zeros":
                halo.zero_()
            else:
                halo.copy_(mirror.flip(-1))

    def fold_halo(self, planes: Tensor) -> None:
        """Adjoint of `fill_halo`: add the halo to the pixels it is filled from.

        The halo itself is left as it is; nothing reads it afterwards.
        """
        if self.padding == "zeros":
            return
        rows = self.rows(planes)
        for halo, mirror in self._sides(rows):
            mirror.add_(halo.flip(-1))

    def _sides(self, rows: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The halo on each side of the rows, and the pixels it mirrors."""
        margin, width = self.margin, self.space[-1]
        edge = edge_width(self.padding)
        return [
            (rows[..., :margin], rows[..., margin + edge : 2 * margin + edge]),
            (rows[..., margin + width :], rows[..., width - edge : width - edge + margin]),
        ]


@lru_cache(maxsize=4096)
def mirrored_runs(size: int, shift: int, start: int, stop: int, padding: str) -> tuple[Run, ...]:
    """Where slices start..stop-1 go when every slice x takes the value of slice rho(x + shift).

    Returns:
        The runs inside an axis of ``size`` slices, the unmirrored one first.
    """
    first, last = max(start, shift), min(stop, size + shift)
    runs = [Run(first, first - shift, last - first, mirrored=False)]
    if padding != "zeros" and shift != 0:
        edge = edge_width(padding)
        if shift < 0:
            low, high, mirror_sum = edge, edge - shift, edge - shift - 1
        else:
            low, high = size - shift - edge, size - edge
            mirror_sum = 2 * size - 1 - shift - edge
        first, last = max(start, low), min(stop, high)
        runs.append(Run(first, mirror_sum - (last - 1), last - first, mirrored=True))
    return tuple(run for run in runs if run.length > 0)
