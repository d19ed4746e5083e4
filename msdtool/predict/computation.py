"""A network computed on images in memory: whole, in strips, or frame by frame."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from msdtool.errors import Error, InputError
from msdtool.nn import MSDModule
from msdtool.nn.device import choose_device, warn_if_slow
from msdtool.nn.graphs import GraphedNetwork
from msdtool.nn.memory import BYTES_PER_VALUE, out_of_memory, prediction_bytes
from msdtool.nn.series import SeriesNetwork
from msdtool.ops.out_of_core.module import SlicedArray
from msdtool.ops.out_of_core.resuming import Resume
from msdtool.predict.memory import check_limit, usable_bytes
from msdtool.predict.network import ScaledArray, load_network
from msdtool.predict.own_levels import output_levels, scaled_in, scaled_out
from msdtool.predict.strip_errors import strip_errors
from msdtool.progress import Progress, no_progress
from msdtool.runs.model import Model

GRAPH_SHARE = 8  # of the usable memory that a CUDA graph may take, of which there are a few


class Computation:
    """A network on a device, and the memory that it may take there.

    Args:
        model: the network, as a checkpoint holds it.
        device: "auto", "cpu" or "cuda".
        name: what error messages call the model.
        memory_bytes: limit of the memory of this process on the CPU; None: what is available.
            Images that do not fit are computed in strips.
        scratch: the folder for the channels of such images; None: the host's memory if the device
            is a GPU and they fit, otherwise the system's folder for temporary files.

    Attributes:
        network: in evaluation mode, on ``device``.
        label_map: of a segmentation, otherwise None.
        usable_bytes: what one image may take of the device's memory.

    Raises:
        ModelFileError: the weights do not fit the architecture.
        ConfigError: the process already takes as much as the limit.
    """

    def __init__(
        self,
        model: Model,
        device: str = "auto",
        name: str = "model",
        *,
        memory_bytes: int | None = None,
        scratch: Path | None = None,
    ) -> None:
        self.model = model
        self.device = choose_device(device)
        warn_if_slow(self.device)
        self.scratch = scratch
        self.network, self.label_map = load_network(model, name)
        self.ndim: int = model.architecture.ndim
        self.network.to(self.device).eval().requires_grad_(False)
        if memory_bytes is not None and self.device.type == "cpu":
            check_limit(memory_bytes)
        self.graphed = GraphedNetwork(self.network, calls_before=2)
        self.memory_bytes = memory_bytes
        self.usable_bytes = usable_bytes(self.device, memory_bytes)

    @property
    def c_in(self) -> int:
        """Channels of the network's input."""
        return self.model.architecture.c_in

    @property
    def c_out(self) -> int:
        """Channels of the network's output."""
        return self.model.architecture.c_out

    @property
    def series(self) -> SeriesNetwork | None:
        """The network if it works on image sequences, otherwise None."""
        return self.network if isinstance(self.network, SeriesNetwork) else None

    def result_space(self, space: Sequence[int]) -> tuple[int, ...]:
        """Return the output's spatial shape for an image's; layers after the block may scale it."""
        scale = self.model.architecture.scale
        return tuple(scale * size for size in space)

    def fits(self, space: tuple[int, ...]) -> bool:
        """Estimate whether an image of this spatial shape can be computed whole."""
        # Also needed: the image itself, scaled, the one read ahead, and outputs being written.
        images = 4 * (self.c_in * (self.model.splits or 1) + self.c_out)
        if self.model.scaling.is_per_image:
            images += self.c_in + self.c_out
        needed = prediction_bytes(self.model.architecture, space)
        return needed + BYTES_PER_VALUE * images * math.prod(space) <= self.usable_bytes

    def compute(
        self, image: Tensor, name: str, progress: Progress, levels: Tensor | None
    ) -> Tensor:
        """Map an image [c_in, *space] to [c_out, *`result_space`], whole or in strips.

        Args:
            image: the image.
            name: what errors call it.
            progress: called after each strip.
            levels: [2, C], by which the image is scaled; None: all are scaled alike.

        Raises:
            InputError, Error: see `stream`.
        """
        if self.fits(tuple(image.shape[1:])):
            try:
                network = self.graphed if self._in_graphs(image) else self.network
                output = self._apply(network, scaled_in(image, levels), name)
                return scaled_out(self.model, output, levels)
            except (RuntimeError, MemoryError) as error:
                if isinstance(error, RuntimeError) and not out_of_memory(error):
                    raise
                # The estimate was wrong, or another process took the memory: use less from now on.
                self.usable_bytes = min(
                    self.usable_bytes,
                    prediction_bytes(self.model.architecture, image.shape[1:]) // 2,
                )
        array = np.empty((self.c_out, *self.result_space(image.shape[1:])), np.float32)
        held = image.nbytes + 2 * array.nbytes  # and the sum, where several are averaged
        self.stream(image.numpy(), array, name, progress, levels, reserved_bytes=held)
        return torch.from_numpy(array)

    @property
    def _plain(self) -> MSDModule | None:
        """The MSD network, if there are no layers around it."""
        msd, outer = self.network.msd, self.model.architecture.outer
        return msd if isinstance(msd, MSDModule) and outer is None else None

    def _in_graphs(self, image: Tensor) -> bool:
        """Whether images of this shape may be computed by a CUDA graph, which keeps its memory."""
        if self.device.type != "cuda" or self._plain is None:
            return False
        needed = prediction_bytes(self.model.architecture, image.shape[1:])
        return needed <= self.usable_bytes // GRAPH_SHARE

    def stream(
        self,
        input: SlicedArray,
        output: SlicedArray,
        name: str,
        progress: Progress = no_progress,
        levels: Tensor | None = None,
        *,
        reserved_bytes: int = 0,
        resume: Resume | None = None,
    ) -> None:
        """Map an image [c_in, *space] to [c_out, *space] in strips; equal except for rounding.

        Args:
            input: read as ``input[:, start:stop]``.
            output: written as ``output[:, start:stop]``, each range once, in order.
            name: what error messages call the image.
            progress: called after each strip.
            levels: [2, C], by which the image is scaled; None: all are scaled alike.
            reserved_bytes: part of the usable memory that something else needs.
            resume: keeps the channels for a later call if they lie on disk.

        Raises:
            InputError: the image is too small for the network's dilations.
            Error: it does not fit in memory, its channels do not fit on disk, or another process
                computes the same.
        """
        msd = self._plain
        if msd is None:
            raise Error(
                f"{name}: does not fit in memory, and this network cannot be computed in strips; "
                "cut the image, or use a machine with more memory"
            )
        room = self.usable_bytes - reserved_bytes
        if self.memory_bytes is not None:
            # The process may have grown since the estimate.
            room = min(room, usable_bytes(self.device, self.memory_bytes))
        buffer = self._buffer(tuple(input.shape[1:]))
        back = output_levels(self.model, levels)
        with strip_errors(name, self.scratch):
            msd.stream(
                ScaledArray(input, self.network.scale_in, self.device, levels),
                ScaledArray(output, self.network.scale_out, self.device, back),
                memory_bytes=room,
                buffer=buffer,
                directory=self.scratch,
                resume=resume if buffer == "disk" else None,
                progress=progress,
            )

    def _buffer(self, space: tuple[int, ...]) -> str:
        """Return the ``buffer`` of `msd_module_streamed` for an image in strips."""
        if self.device.type == "cpu" or self.scratch is not None:
            return "disk"
        needed = prediction_bytes(self.model.architecture, space)
        return "host" if needed <= usable_bytes(torch.device("cpu"), self.memory_bytes) else "disk"

    def advance(self, piece: Tensor, name: str, levels: Tensor | None = None) -> Tensor:
        """Continue a series with its next frames [c_in, *space]; see `SeriesNetwork.advance`.

        Args:
            piece: the frames.
            name: what errors call the series.
            levels: of the whole series, [1, 2, C]; None: all are scaled alike.

        Raises:
            InputError: the frames are too small for the network's dilations.
        """
        assert self.series is not None
        own = None if levels is None else levels[0]
        output = self._apply(self.series.advance, scaled_in(piece, own), name)
        return scaled_out(self.model, output, own)

    def _apply(self, network: Callable[[Tensor], Tensor], image: Tensor, name: str) -> Tensor:
        try:
            with torch.no_grad():
                moved = image.to(self.device, non_blocking=True)
                return network(moved.unsqueeze(0))[0].cpu()
        except ValueError as error:
            raise InputError(f"{name}: {error}") from None
