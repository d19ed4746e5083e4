"""The stack of taps: 3^n planes per channel between a matrix product and a convolution.

For a channel with dilation s, plane t (an n-tuple of -1, 0, 1) of the stack Z holds what tap t
contributes to the convolution, still at the pixel it was read from:

    out(x) = sum_t Z_t(rho(x + s*t)),   rho the border rule.

`gather` computes this sum; `spread` is its adjoint, S_t(y) = sum of d(x) over rho(x + s*t) = y.

A stack covers a tile, the slices start..stop-1 of the image. In the last axis the planes have a
halo (`msdtool.ops.cpu.layout`). In 3D the middle axis has none, although slices follow each other
without a gap: the rows that tap +1 would read past the end of a slice are the first rows of the
next slice, which tap +1 reads for no other purpose. They hold the mirror image of the previous
slice (`_fill_rows`); the same holds for tap -1 and the last rows of the previous slice.
"""

import torch
from torch import Tensor

from msdtool.border import edge_width
from msdtool.ops.cpu.layout import (
    FLOATS_PER_CACHE_LINE,
    Layout,
    Run,
    mirrored_runs,
    padded_stride,
)


class TapStack:
    """Workspace for the taps of up to ``num_channels`` channels on tiles of ``tile_slices``."""

    def __init__(self, layout: Layout, num_channels: int, tile_slices: int, like: Tensor) -> None:
        self.layout = layout
        self.tile_slices = tile_slices
        self.num_axes = len(layout.space)
        self.num_taps = 3**self.num_axes
        # A tap reads at most one margin beyond a tile along each axis inside a slice. Planes that
        # start on a cache line make the product that writes them up to 15 % faster.
        reach = layout.margin * sum(layout.axis_steps[1:])
        self.lead = -(-reach // FLOATS_PER_CACHE_LINE) * FLOATS_PER_CACHE_LINE
        self.stride = padded_stride(tile_slices * layout.slice_size + 2 * self.lead)
        self.planes = like.new_empty(num_channels * self.num_taps, self.stride)
        self.ones = like.new_ones(3)

    def tile(self, num_channels: int, num_slices: int) -> Tensor:
        """View of the stack: [num_channels * 3^n, num_slices * slice_size]."""
        size = num_slices * self.layout.slice_size
        return self.planes[: num_channels * self.num_taps, self.lead : self.lead + size]

    def gather(self, channel: int, dilation: int, start: int, stop: int, out: Tensor) -> None:
        """Add the taps of one channel, read on slices start..stop-1, to its plane ``out`` [size].

        Only the interior of ``out`` is meaningful afterwards, not its halo.
        """
        self._fill_rows(channel, dilation, stop - start)
        slice_size = self.layout.slice_size
        for tap in (-1, 0, 1):
            for run in self._runs(tap * dilation, start, stop):
                target = out.narrow(0, run.target * slice_size, run.length * slice_size)
                if not run.mirrored:
                    self._add_inner_taps(channel, tap, dilation, run.source - start, target)
                    continue
                sums = target.new_zeros(len(target))
                self._add_inner_taps(channel, tap, dilation, run.source - start, sums)
                target.view(run.length, -1).add_(sums.view(run.length, -1).flip(0))

    def _add_inner_taps(
        self, channel: int, tap: int, dilation: int, first_slice: int, target: Tensor
    ) -> None:
        """Add the taps (tap, *) from the tile's slices ``first_slice``.. to ``target``, flat.

        The three taps of the last axis are equally spaced in memory, one plane and one dilation
        apart, so their sum is a matrix-vector product, the fastest reduction in BLAS.
        """
        source = self.lead + first_slice * self.layout.slice_size
        middle_taps = (0,) if self.num_axes == 2 else (-1, 0, 1)
        plane = channel * self.num_taps + (tap + 1) * self.num_taps // 3
        for index, middle_tap in enumerate(middle_taps):
            shift = (middle_tap * self.layout.pitch - 1) * dilation
            offset = (plane + 3 * index) * self.stride + source + shift
            taps = self.planes.as_strided((len(target), 3), (1, self.stride + dilation), offset)
            target.addmv_(taps, self.ones)

    def spread(self, channel: int, delta: "DeltaTile") -> None:
        """Write the adjoint of `gather` for the tile of ``delta``, with the taps in reverse order.

        Plane t of the stack holds S_{-t}: then plane and shift grow together, and one strided
        copy writes all taps.
        """
        taps = self._taps_of(channel)
        num_slices = delta.stop - delta.first
        size = num_slices * self.layout.slice_size + 2 * self.lead
        taps[..., :size].copy_(delta.shifted(size))
        for tap in (-1, 1):
            for run in self._runs(tap * delta.dilation, delta.first, delta.stop):
                if run.mirrored:
                    mirrored = delta.mirrored(run)
                    offset = (run.source - delta.first) * self.layout.slice_size
                    taps[1 - tap].narrow(-1, offset, mirrored.shape[-1]).add_(mirrored)
        self._fold_rows(channel, delta.dilation, num_slices)

    def _runs(self, shift: int, start: int, stop: int) -> tuple[Run, ...]:
        return mirrored_runs(self.layout.num_slices, shift, start, stop, self.layout.padding)

    def _taps_of(self, channel: int) -> Tensor:
        """The planes of one channel, [3, 3(, 3), stride]."""
        planes = self.planes.narrow(0, channel * self.num_taps, self.num_taps)
        return planes.view(*(3,) * self.num_axes, self.stride)

    def _fill_rows(self, channel: int, dilation: int, num_slices: int) -> None:
        """3D: write what the outward taps of the middle axis read beyond each slice."""
        for tap, beyond, mirror in self._row_sides(dilation):
            plane = channel * self.num_taps + 3 * (1 + tap)
            halo = self._rows(plane, beyond, dilation, num_slices)
            if self.layout.padding == "zeros":
                halo.zero_()
            else:
                halo.copy_(self._rows(plane, mirror, dilation, num_slices).flip(-2))

    def _fold_rows(self, channel: int, dilation: int, num_slices: int) -> None:
        """Adjoint of `_fill_rows`, on a stack whose taps are in reverse order."""
        for tap, beyond, mirror in self._row_sides(dilation):
            plane = channel * self.num_taps + 3 * (1 - tap)
            folded = self._rows(plane, beyond, dilation, num_slices).flip(-2)
            # One slice more: the tile also holds rows beyond a slice that borders on the tile.
            self._rows(plane, min(beyond, 0), dilation, num_slices + 1).zero_()
            if self.layout.padding != "zeros":
                self._rows(plane, mirror, dilation, num_slices).add_(folded)

    def _row_sides(self, dilation: int) -> list[tuple[int, int, int]]:
        """3D: per outward tap, the first row it reads beyond a slice and the first it mirrors."""
        if self.num_axes == 2:
            return []
        height, edge = self.layout.space[1], edge_width(self.layout.padding)
        return [(-1, -dilation, edge), (1, height, height - dilation - edge)]

    def _rows(self, plane: int, first_row: int, num_rows: int, num_slices: int) -> Tensor:
        """View rows of every slice for the taps (*, plane, *): [3, 3, slices, rows, pitch]."""
        pitch = self.layout.pitch
        return self.planes.as_strided(
            (3, 3, num_slices, num_rows, pitch),
            (9 * self.stride, self.stride, self.layout.slice_size, pitch, 1),
            plane * self.stride + self.lead + first_row * pitch,
        )


class DeltaTile:
    """The gradient before the ReLU of one channel, on a tile and the slices its taps reach.

    Everything outside the image is zero, including the halo of the last axis.
    """

    def __init__(self, stack: TapStack) -> None:
        self.layout = stack.layout
        self.lead = stack.lead
        self.origin = self.layout.margin * self.layout.slice_size + 2 * self.lead
        tile_size = stack.tile_slices * self.layout.slice_size
        self.flat = stack.planes.new_zeros(2 * self.origin + tile_size)

    def take(self, grads: Tensor, outputs: Tensor, first: int, stop: int) -> None:
        """Move to slices first..stop-1 of the channels [C, size] of one image."""
        self.grads, self.outputs = grads, outputs
        self.first, self.stop = first, stop

    def load(self, channel: int, dilation: int) -> None:
        """Load the gradient where the output of a channel with this dilation is positive."""
        self.dilation = dilation
        low = max(self.first - dilation, 0)
        high = min(self.stop + dilation, self.layout.num_slices)
        pixels = slice(low * self.layout.slice_size, high * self.layout.slice_size)
        torch.ops.aten.threshold_backward.grad_input(
            self.layout.interior(self.grads[channel, pixels]),
            self.layout.interior(self.outputs[channel, pixels]),
            0,
            grad_input=self._interior(low, high),
        )
        self._interior(self.first - dilation, low).zero_()
        self._interior(high, self.stop + dilation).zero_()

    def shifted(self, size: int) -> Tensor:
        """View [3, 3(, 3), size] of the tile moved by dilation * (-1, 0, 1) along every axis.

        ``size`` counts the lead on both sides of the tile.
        """
        steps = self._steps()
        first = self.origin - self.lead - sum(steps)
        return self.flat.as_strided((3,) * len(steps) + (size,), (*steps, 1), first)

    def mirrored(self, run: Run) -> Tensor:
        """Slices of a mirrored run in the order of its source, moved along the other axes.

        Returns:
            [3(, 3), run.length * slice_size + 2 * lead].
        """
        steps = self._steps()[1:]
        size = run.length * self.layout.slice_size
        source = self._slices(run.target, run.target + run.length).view(run.length, -1)
        flat = self.flat.new_zeros(size + 4 * self.lead)
        flat[2 * self.lead : 2 * self.lead + size].view(run.length, -1).copy_(source.flip(0))
        shape = (3,) * len(steps) + (size + 2 * self.lead,)
        return flat.as_strided(shape, (*steps, 1), self.lead - sum(steps))

    def _steps(self) -> tuple[int, ...]:
        """Elements between neighbouring taps along each axis."""
        return tuple(self.dilation * step for step in self.layout.axis_steps)

    def _slices(self, first: int, stop: int) -> Tensor:
        """View slices of the image, flat."""
        step = self.layout.slice_size
        start = self.origin + (first - self.first) * step
        return self.flat[start : start + (stop - first) * step]

    def _interior(self, first: int, stop: int) -> Tensor:
        return self.layout.interior(self._slices(first, stop))
