"""A trained network applied to images in memory or on disk, whole or in strips."""

import math
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msdtool.data.inputs import open_inputs
from msdtool.data.interfaces import Stack
from msdtool.data.pairing import check_finite
from msdtool.data.specifiers import Specifier
from msdtool.data.stacks import ImageStack
from msdtool.data.writers import label_dtype
from msdtool.errors import ConfigError, Error, InputError
from msdtool.nn import MSDModule
from msdtool.nn.device import choose_device, warn_if_slow
from msdtool.nn.memory import BYTES_PER_VALUE, out_of_memory, prediction_bytes
from msdtool.nn.series import SeriesNetwork
from msdtool.ops.out_of_core.module import SlicedArray
from msdtool.ops.out_of_core.resuming import Resume
from msdtool.predict.encoding import Encoding, Pixels
from msdtool.predict.memory import check_limit, usable_bytes
from msdtool.predict.network import ScaledArray, digest, load_network
from msdtool.predict.own_figures import of_image, output_figures, scaled_in, scaled_out
from msdtool.predict.plausibility import Plausibility
from msdtool.predict.strip_errors import strip_errors
from msdtool.predict.symmetries import symmetries
from msdtool.progress import Progress, no_progress
from msdtool.runs.checkpoint import find_model, load_checkpoint
from msdtool.runs.model import Model
from msdtool.wording import perhaps_opacity


def _part(progress: Progress, number: int, count: int) -> Progress:
    """Report the progress of one of ``count`` equal parts as progress of the whole."""

    def report(done: float, total: float, note: str = "") -> None:
        progress(number + done / total, count, note)

    return report


class Predictor:
    """A trained network and what it needs to read and write images.

    Args:
        model: the network, as a checkpoint holds it.
        device: "auto", "cpu" or "cuda".
        name: what error messages call the model.
        memory_bytes: limit of the memory of this process on the CPU; None: what is available.
            Images that do not fit are computed in strips.
        scratch: the folder for the channels of such images; None: the host's memory if the device
            is a GPU and they fit, otherwise the system's folder for temporary files.
        tta: test-time augmentation: average over the eight symmetries of
            `msdtool.predict.symmetries`.

    Attributes:
        usable_bytes: what one image may take of the device's memory.

    Raises:
        ModelFileError: the weights do not fit the architecture.
        ConfigError: a network that works on image sequences cannot average over symmetries, or
            the process already takes as much as the limit.
    """

    def __init__(
        self,
        model: Model,
        device: str = "auto",
        name: str = "model",
        *,
        memory_bytes: int | None = None,
        scratch: Path | None = None,
        tta: bool = False,
    ) -> None:
        self.model = model
        self.device = choose_device(device)
        warn_if_slow(self.device)
        self.scratch = scratch
        self.tta = tta
        self.network, self.label_map = load_network(model, name)
        self.plausibility = Plausibility(
            model.normalisation, any_unit=model.normalising.is_per_image
        )
        self.ndim: int = model.architecture.ndim
        if tta and self.series is not None:
            raise ConfigError(
                f"tta: {name} works on image sequences, whose axes cannot be exchanged or flipped; "
                "turn it off",
                hint_key="tta",
            )
        self.network.to(self.device).eval().requires_grad_(False)
        if memory_bytes is not None and self.device.type == "cpu":
            check_limit(memory_bytes)
        self.memory_bytes = memory_bytes
        self.usable_bytes = usable_bytes(self.device, memory_bytes)

    @classmethod
    def load(cls, path: str | Path, device: str = "auto", **options: Any) -> "Predictor":
        """Load a run directory's best checkpoint, or a checkpoint file.

        Raises:
            ModelFileError: there is no checkpoint, or it cannot be used.
        """
        file = find_model(path)
        return cls(load_checkpoint(file).model, device, str(file), **options)

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

    @property
    def digest(self) -> str:
        """A hash that identifies this network and the way it is used."""
        return digest(self.model, str(self.tta))

    # Images ------------------------------------------------------------------------------------

    def open_inputs(self, specifiers: Sequence[Specifier]) -> tuple[Stack, list[ImageStack]]:
        """Open inputs as the training inputs were opened; see `msdtool.data.inputs`.

        Raises:
            InputError: there are no files, or the number of splits differs.
        """
        return open_inputs(
            specifiers,
            splits=self.model.splits,
            strategy=self.model.strategy,
            slab=self.model.slab,
            collapse_channels=self.model.collapse_channels,
            ndim=self.ndim,
        )

    def check(self, image: Tensor, name: str) -> None:
        """Raise InputError if the network cannot work on an image; warn of another unit."""
        thickness = 2 * self.model.slab + 1
        found, expected = image.shape[0], self.c_in
        if found not in (expected, expected * (self.model.splits or 1)):
            found, expected = found // thickness, expected // thickness
            raise InputError(
                f"{name}: the image has {found} channels, the model was trained on images with "
                f"{expected}{perhaps_opacity(found, expected)}"
            )
        check_finite(image, name, "replace them")
        self.plausibility.check_input(image, name)

    def fits(self, space: tuple[int, ...]) -> bool:
        """Estimate whether an image of this spatial shape can be computed whole."""
        # Also needed: the image itself, scaled, the one read ahead, and outputs being written.
        images = 4 * (self.c_in * (self.model.splits or 1) + self.c_out)
        if self.model.normalising.is_per_image:
            images += self.c_in + self.c_out
        needed = prediction_bytes(self.model.architecture, space)
        return needed + BYTES_PER_VALUE * images * math.prod(space) <= self.usable_bytes

    def __call__(
        self,
        image: Tensor,
        name: str = "image",
        progress: Progress = no_progress,
        figures: Tensor | None = None,
    ) -> Tensor:
        """Map an image [c_in, *space] to the network's output [c_out, *`result_space`], on the CPU.

        For several inputs [n * c_in, *space], which splits make, the outputs are averaged; with
        `tta` over the symmetries as well. Labels are averaged as probabilities, and the logarithm
        of these is returned.

        Args:
            image: the image.
            name: what errors call it.
            progress: called after each part.
            figures: by which its inputs are scaled, see `msdtool.predict.own_figures`; None: the
                image is a whole one, whose figures are measured.

        Raises:
            InputError: the image is too small for the network's dilations, the output is constant
                because the image is in another unit than the training images, or the image has no
                contrast by which it could be scaled.
            Error: it does not fit in memory, not even in strips.
        """
        if figures is None:
            figures = of_image(self.model, image, name)
        output = self._average(image, name, progress, figures)
        labels = self.label_map is not None
        self.plausibility.check_output(image, output, name, labels=labels)
        return output

    def _average(
        self, image: Tensor, name: str, progress: Progress, figures: Tensor | None
    ) -> Tensor:
        """Average over inputs and symmetries; see `__call__`."""
        inputs = image.unflatten(0, (-1, self.c_in)).unbind()
        ways = symmetries(self.ndim) if self.tta else symmetries(self.ndim)[:1]
        if len(inputs) * len(ways) == 1:
            own = None if figures is None else figures[0]
            return self._compute(image, name, progress, own)
        count = len(inputs) * len(ways)
        total = torch.zeros(self.c_out, *self.result_space(image.shape[1:]))
        for number, ((place, one), way) in enumerate(product(enumerate(inputs), ways)):
            own = None if figures is None else figures[place]
            output = self._compute(way.apply(one), name, _part(progress, number, count), own)
            total += way.undo(output.softmax(0) if self.label_map else output)
        total *= 1 / count
        return total.log_() if self.label_map else total

    def advance(self, piece: Tensor, name: str, figures: Tensor | None = None) -> Tensor:
        """Continue a series with its next frames [c_in, *space]; see `SeriesNetwork.advance`.

        Args:
            piece: the frames.
            name: what errors call the series.
            figures: of the whole series, [1, 2, C]; None: all are scaled alike.

        Raises:
            InputError: the frames are too small for the network's dilations.
        """
        assert self.series is not None
        own = None if figures is None else figures[0]
        output = self._apply(self.series.advance, scaled_in(piece, own), name)
        return scaled_out(self.model, output, own)

    def _apply(self, network: Callable[[Tensor], Tensor], image: Tensor, name: str) -> Tensor:
        try:
            with torch.no_grad():
                return network(image.to(self.device).unsqueeze(0))[0].cpu()
        except ValueError as error:
            raise InputError(f"{name}: {error}") from None

    def _compute(
        self, image: Tensor, name: str, progress: Progress, figures: Tensor | None
    ) -> Tensor:
        if self.fits(tuple(image.shape[1:])):
            try:
                output = self._apply(self.network, scaled_in(image, figures), name)
                return scaled_out(self.model, output, figures)
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
        self.stream(image.numpy(), array, name, progress, figures, reserved_bytes=held)
        return torch.from_numpy(array)

    def stream(
        self,
        input: SlicedArray,
        output: SlicedArray,
        name: str,
        progress: Progress = no_progress,
        figures: Tensor | None = None,
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
            figures: [2, C], by which the image is scaled; None: all are scaled alike.
            reserved_bytes: part of the usable memory that something else needs.
            resume: keeps the channels for a later call if they lie on disk.

        Raises:
            InputError: the image is too small for the network's dilations.
            Error: it does not fit in memory, its channels do not fit on disk, or another process
                computes the same.
        """
        msd = self.network.msd
        if not isinstance(msd, MSDModule) or self.model.architecture.outer is not None:
            raise Error(
                f"{name}: does not fit in memory, and this network cannot be computed in strips; "
                "cut the image, or use a machine with more memory"
            )
        room = self.usable_bytes - reserved_bytes
        if self.memory_bytes is not None:
            # The process may have grown since the estimate.
            room = min(room, usable_bytes(self.device, self.memory_bytes))
        buffer = self._buffer(tuple(input.shape[1:]))
        back = output_figures(self.model, figures)
        with strip_errors(name, self.scratch):
            msd.stream(
                ScaledArray(input, self.network.scale_in, self.device, figures),
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

    # Results -----------------------------------------------------------------------------------

    @property
    def result_dtype(self) -> np.dtype[Any]:
        """The dtype of results."""
        return label_dtype(self.label_map.values) if self.label_map else np.dtype(np.float32)

    def pixels(self, encoding: Encoding) -> Pixels:
        """Return what results hold in an encoding."""
        channels = self.c_out if self.label_map is None else 1
        return encoding.pixels(channels, self.ndim, self.result_dtype)

    def to_image(self, output: Tensor) -> np.ndarray[Any, np.dtype[Any]]:
        """Convert the network's output to what is written: float32, or label values."""
        if self.label_map is None:
            return output.numpy()
        values = self.label_map.to_values(output.argmax(0, keepdim=True).numpy())
        return values.astype(self.result_dtype)
