"""Where the channels of an image lie while it is computed in strips: on disk or in memory.

Channels are [slices, C, ...], so that the preceding channels of a layer are contiguous in each
slice.
"""

import errno
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from msdtool.positioned import BINARY, read_at, write_at
from msdtool.private import NO_FOLLOW

# Moved through memory at once: the input, and channels from or to another device.
STAGED_BYTES = 8 * 2**20
MAX_BUFFERS = 1024  # per call: IOV_MAX


class Store(Protocol):
    """The channels of an image."""

    def read(self, start: int, pixels: Tensor) -> None:
        """Fill pixels [C, n, ...] with the first C channels of slices start..start+n-1."""

    def write(self, channel: int, start: int, pixels: Tensor) -> None:
        """Write pixels [C, n, ...] to channels ``channel``.. of slices start..start+n-1."""

    def close(self) -> None:
        """Release what it holds."""


def ranges(stop: int, length: int, first: int = 0) -> Iterator[tuple[int, int]]:
    """Yield first..stop-1 as (start, stop) of ranges of a length; the last one may be shorter."""
    for start in range(first, stop, length):
        yield start, min(start + length, stop)


def staged(pixels: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield the start and the pixels of pieces of [C, n, ...] along n, `STAGED_BYTES` each."""
    slice_bytes = pixels[:, :1].numel() * pixels.element_size()
    for start, stop in ranges(pixels.shape[1], max(1, STAGED_BYTES // slice_bytes)):
        yield start, pixels[:, start:stop]


class TensorStore:
    """Channels in the memory of the host or of a device.

    Args:
        num_channels: number of channels.
        space: spatial shape of the image.
        like: a tensor of their dtype.
        device: where they lie.
    """

    def __init__(
        self, num_channels: int, space: Sequence[int], like: Tensor, device: torch.device
    ) -> None:
        size = (space[0], num_channels, *space[1:])
        self.channels = torch.empty(size, dtype=like.dtype, device=device)

    def close(self) -> None:
        """Release the memory."""
        del self.channels

    def read(self, start: int, pixels: Tensor) -> None:
        """Fill pixels [C, n, ...] with the first C channels of slices start..start+n-1."""
        for first, part in staged(pixels):
            piece = torch.empty_like(part.movedim(1, 0), memory_format=torch.contiguous_format)
            # Slice by slice: torch copies contiguous tensors between devices directly.
            for index, row in enumerate(piece):
                row.copy_(self.channels[start + first + index, : len(pixels)])
            part.copy_(piece.movedim(0, 1))

    def write(self, channel: int, start: int, pixels: Tensor) -> None:
        """Write pixels [C, n, ...] to channels ``channel``.. of slices start..start+n-1."""
        for first, part in staged(pixels):
            for index, row in enumerate(part.movedim(1, 0).contiguous()):
                self.channels[start + first + index, channel : channel + len(pixels)].copy_(row)


class FileStore:
    """Channels in a file.

    Rows are transferred between the file and tensors without an intermediate copy. The file is not
    memory-mapped, since mapped pages count as memory of the process.

    Args:
        path: the file.
        num_channels: number of channels.
        space: spatial shape of the image.
        like: a tensor of their dtype.
        is_new: create the file; otherwise it holds channels.

    Raises:
        OSError: the file does not fit on the disk, or is there although it should be new.
    """

    def __init__(
        self,
        path: Path,
        num_channels: int,
        space: Sequence[int],
        like: Tensor,
        *,
        is_new: bool = True,
    ) -> None:
        self.num_channels = num_channels
        self.dtype = torch.empty(0, dtype=like.dtype).numpy().dtype
        self.channel_bytes = math.prod(space[1:]) * self.dtype.itemsize
        self.num_threads = torch.get_num_threads()
        self.threads = ThreadPoolExecutor(self.num_threads)
        create = os.O_CREAT | os.O_EXCL if is_new else 0
        self.file = os.open(path, os.O_RDWR | BINARY | NO_FOLLOW | create, 0o600)
        # Reserved now, so that a full disk is not found after hours of work.
        size = space[0] * num_channels * self.channel_bytes
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self.file, 0, size)
        else:  # macOS and Windows cannot reserve
            os.truncate(self.file, size)

    def close(self) -> None:
        """Close the file."""
        self.threads.shutdown()
        os.close(self.file)

    def read(self, start: int, pixels: Tensor) -> None:
        """Fill pixels [C, n, ...] with the first C channels of slices start..start+n-1."""
        for first, part in self._parts(pixels):
            host = part if part.device.type == "cpu" else torch.empty_like(part, device="cpu")
            self._transfer(read_at, 0, start + first, host)
            if host is not part:
                part.copy_(host)

    def write(self, channel: int, start: int, pixels: Tensor) -> None:
        """Write pixels [C, n, ...] to channels ``channel``.. of slices start..start+n-1."""
        for first, part in self._parts(pixels):
            self._transfer(write_at, channel, start + first, part.cpu())

    def _parts(self, pixels: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield all slices at once, or pieces of what a device has to pass through the host."""
        return iter([(0, pixels)]) if pixels.device.type == "cpu" else staged(pixels)

    def _transfer(
        self, move: Callable[[int, Any, int], int], channel: int, start: int, pixels: Tensor
    ) -> None:
        """Read or write pixels [C, n, ...], row by row; they are contiguous bytes in each slice."""
        rows = pixels.unflatten(1, (-1, 1)) if pixels.ndim == 3 else pixels
        array = rows.numpy()  # [C, n, H, W] or [C, n, 1, W]

        def transfer(indices: range) -> None:
            for index in indices:
                buffers = [row for image in array[:, index] for row in image]
                offset = ((start + index) * self.num_channels + channel) * self.channel_bytes
                for first in range(0, len(buffers), MAX_BUFFERS):
                    some = buffers[first : first + MAX_BUFFERS]
                    expected = sum(buffer.nbytes for buffer in some)
                    if move(self.file, some, offset) != expected:
                        raise OSError(errno.EIO, "the file of channels is truncated")
                    offset += expected

        # The system copies in the calling thread, which does not hold the interpreter's lock.
        share = -(-array.shape[1] // self.num_threads)
        parts = [range(array.shape[1])[i : i + share] for i in range(0, array.shape[1], share)]
        list(self.threads.map(transfer, parts))
