"""A trained network applied to images in memory or on disk, whole or in strips."""

import errno
import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msdtool.data.inputs import open_inputs
from msdtool.data.interfaces import Stack
from msdtool.data.specifiers import Specifier
from msdtool.data.stacks import ImageStack
from msdtool.data.writers import label_dtype
from msdtool.errors import ConfigError, Error, InputError
from msdtool.nn import MSDModule
from msdtool.nn.device import choose_device
from msdtool.nn.memory import BYTES_PER_VALUE, out_of_memory, prediction_bytes
from msdtool.nn.series import SeriesNetwork
from msdtool.ops.streaming import SlicedArray
from msdtool.predict.memory import check_limit, usable_bytes
from msdtool.predict.network import ScaledArray, digest, load_network
from msdtool.predict.symmetries import symmetries
from msdtool.runs.checkpoint import Model, find_model, load_checkpoint

Tick = Callable[[float], None]


def _no_tick(done: float) -> None:
    pass


def _tick_part(tick: Tick, before: float, share: float, done: float) -> None:
    """Tell how far the whole is from how far a part of it is."""
    tick(before + share * done)


class Predictor:
    """A trained network and what it needs to read and write images.

    Args:
        model: the network, as a checkpoint holds it.
        device: "auto", "cpu" or "cuda".
        name: what error messages call the model.
        memory_bytes: limit of the memory of this process; None takes what is free. Images that do
            not fit are computed in strips.
        scratch: the folder for the channels of such images; None takes the host's memory if a
            GPU computes and they fit there, else the system's folder for temporary files.
        augment: average over the eight symmetries of `msdtool.predict.symmetries`.

    Raises:
        ModelFileError: the weights do not fit the architecture.
        ConfigError: a network that works on series cannot average over symmetries, or the process
            takes more than the limit already.
    """

    def __init__(
        self,
        model: Model,
        device: str = "auto",
        name: str = "model",
        *,
        memory_bytes: int | None = None,
        scratch: Path | None = None,
        augment: bool = False,
    ) -> None:
        self.model = model
        self.device = choose_device(device)
        self.scratch = scratch
        self.augment = augment
        self.network, self.label_map = load_network(model, name)
        self.ndim: int = model["architecture"]["ndim"]
        if augment and self.series is not None:
            raise ConfigError(f"--tta: {name} works on series, which are not turned; leave it out")
        self.network.to(self.device).eval().requires_grad_(False)
        if memory_bytes is not None and self.device.type == "cpu":
            check_limit(memory_bytes)
        self.limit = memory_bytes
        self.memory_bytes = usable_bytes(self.device, memory_bytes)

    @classmethod
    def load(cls, path: str | Path, device: str = "auto", **options: Any) -> "Predictor":
        """Load a run directory's best checkpoint, or a checkpoint file.

        Raises:
            ModelFileError: there is none, or it cannot be used.
        """
        file = find_model(path)
        return cls(load_checkpoint(file)["model"], device, str(file), **options)

    @property
    def c_in(self) -> int:
        """Channels of the network's input."""
        return int(self.model["architecture"]["c_in"])

    @property
    def c_out(self) -> int:
        """Channels of the network's output."""
        return int(self.model["architecture"]["c_out"])

    @property
    def series(self) -> SeriesNetwork | None:
        """The network, if it works on series."""
        return self.network if isinstance(self.network, SeriesNetwork) else None

    def result_space(self, space: Sequence[int]) -> tuple[int, ...]:
        """Size of the output for an image of a size; layers behind the network may enlarge it."""
        scale = self.model["architecture"].get("scale", 1)
        return tuple(scale * size for size in space)

    @property
    def digest(self) -> str:
        """A text that tells this network and way of using it from others."""
        return digest(self.model, str(self.augment))

    # Images ------------------------------------------------------------------------------------

    def open_inputs(self, specifiers: Sequence[Specifier]) -> tuple[Stack, list[ImageStack]]:
        """Open inputs the way the training inputs were made; see `msdtool.data.inputs`.

        Raises:
            InputError: there are no files, or another number of splits.
        """
        return open_inputs(
            specifiers,
            splits=self.model["splits"],
            strategy=self.model["strategy"],
            slab=self.model["slab"],
            collapse_channels=self.model["collapse_channels"],
            ndim=self.ndim,
        )

    def check(self, image: Tensor, name: str) -> None:
        """Raise InputError if the network cannot work on an image."""
        thickness = 2 * self.model["slab"] + 1
        found, expected = image.shape[0], self.c_in
        if found not in (expected, expected * (self.model["splits"] or 1)):
            raise InputError(
                f"{name}: the image has {found // thickness} channels, the model was trained on "
                f"images with {expected // thickness}"
            )
        bad = int(image.numel() - image.isfinite().sum())
        if bad:
            raise InputError(
                f"{name}: {bad} of {image.numel()} values are NaN or infinite; replace them"
            )

    def fits(self, space: tuple[int, ...]) -> bool:
        """Whether an image of this size is computed whole, by an estimate."""
        # Besides: the image as it is and scaled, the one read ahead, outputs being written.
        images = 4 * (self.c_in * (self.model["splits"] or 1) + self.c_out)
        needed = prediction_bytes(self.model["architecture"], space)
        return needed + BYTES_PER_VALUE * images * math.prod(space) <= self.memory_bytes

    def __call__(self, image: Tensor, name: str = "image", tick: Tick = _no_tick) -> Tensor:
        """Map an image [c_in, *space] to the network's output [c_out, *`result_space`], on the CPU.

        Of several inputs [n * c_in, *space], as splits make them, it is the mean of the outputs;
        with `augment` that over the symmetries, too. Labels are averaged as probabilities, whose
        logarithm is returned.

        Raises:
            InputError: the image is too small for the network's dilations.
            Error: it does not fit the memory, not even in strips.
        """
        inputs = image.unflatten(0, (-1, self.c_in)).unbind()
        ways = symmetries(self.ndim) if self.augment else symmetries(self.ndim)[:1]
        if len(inputs) * len(ways) == 1:
            return self._compute(image, name, tick)
        share = 1 / (len(inputs) * len(ways))
        total = torch.zeros(self.c_out, *self.result_space(image.shape[1:]))
        for number, (one, way) in enumerate(product(inputs, ways)):
            part = partial(_tick_part, tick, number * share, share)
            output = self._compute(way.apply(one), name, part)
            total += way.undo(output.softmax(0) if self.label_map else output)
        total *= share
        return total.log_() if self.label_map else total

    def advance(self, piece: Tensor, name: str) -> Tensor:
        """Go on with a series by a piece [c_in, *space]; see `SeriesNetwork.advance`.

        Raises:
            InputError: the frames are too small for the network's dilations.
        """
        assert self.series is not None
        return self._apply(self.series.advance, piece, name)

    def _apply(self, network: Callable[[Tensor], Tensor], image: Tensor, name: str) -> Tensor:
        try:
            with torch.no_grad():
                return network(image.to(self.device).unsqueeze(0))[0].cpu()
        except ValueError as error:
            raise InputError(f"{name}: {error}") from None

    def _compute(self, image: Tensor, name: str, tick: Tick) -> Tensor:
        if self.fits(tuple(image.shape[1:])):
            try:
                return self._apply(self.network, image, name)
            except (RuntimeError, MemoryError) as error:
                if isinstance(error, RuntimeError) and not out_of_memory(error):
                    raise
                # The estimate was wrong, or another process was quicker: less from now on.
                self.memory_bytes = min(
                    self.memory_bytes,
                    prediction_bytes(self.model["architecture"], image.shape[1:]) // 2,
                )
        output = np.empty((self.c_out, *self.result_space(image.shape[1:])), np.float32)
        held = image.nbytes + 2 * output.nbytes  # and the sum, where several are averaged
        self.stream(image.numpy(), output, name, tick, held)
        return torch.from_numpy(output)

    def stream(
        self,
        input: SlicedArray,
        output: SlicedArray,
        name: str,
        tick: Tick = _no_tick,
        reserved_bytes: int = 0,
        **going_on: Any,
    ) -> None:
        """Map an image [c_in, *space] to [c_out, *space] in strips, equal but for rounding.

        Args:
            input: read as ``input[:, start:stop]``.
            output: written likewise, each range once, in order.
            name: what error messages call the image.
            tick: called with the share that is done.
            reserved_bytes: of the memory, that something else needs.
            going_on: ``keep``, ``save_output`` and ``has_output`` of `msd_module_streamed`.

        Raises:
            InputError: the image is too small for the network's dilations.
            Error: it does not fit the memory, or its channels not the disk.
        """
        msd = self.network.msd
        if not isinstance(msd, MSDModule) or "stem" in self.model["architecture"]:
            raise Error(
                f"{name}: does not fit in memory, and this network cannot be computed in strips; "
                "cut the image, or use a machine with more"
            )
        room = self.memory_bytes - reserved_bytes
        if self.limit is not None:
            # The process may have grown since it was estimated.
            room = min(room, usable_bytes(self.device, self.limit))
        buffer = self._buffer(tuple(input.shape[1:]))
        try:
            msd.stream(
                ScaledArray(input, self.network.scale_in, self.device),
                ScaledArray(output, self.network.scale_out, self.device),
                memory_bytes=room,
                buffer=buffer,
                directory=self.scratch,
                **(going_on if buffer == "disk" else {}),
                tick=tick,
            )
        except ValueError as error:
            if "memory limit" not in str(error):
                raise InputError(f"{name}: {error}") from None
            raise Error(
                f"{name}: {error}; give more by --memory, or use a machine with more"
            ) from None
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise Error(f"{name}: {error.strerror}; end one of them") from None
            raise Error(
                f"{name}: its channels lie on disk while it is computed, "
                f"{error.strerror}: {self.scratch or 'the temporary folder'}; name a folder with "
                "more room by --scratch"
            ) from None

    def _buffer(self, space: tuple[int, ...]) -> str:
        """Where the channels of an image in strips lie, as `msd_module_streamed` takes it."""
        if self.device.type == "cpu" or self.scratch is not None:
            return "disk"
        needed = prediction_bytes(self.model["architecture"], space)
        return "host" if needed <= usable_bytes(torch.device("cpu"), self.limit) else "disk"

    # Results -----------------------------------------------------------------------------------

    @property
    def result_dtype(self) -> np.dtype[Any]:
        """Type of the pixels of results."""
        return label_dtype(self.label_map.values) if self.label_map else np.dtype(np.float32)

    def to_image(self, output: Tensor) -> np.ndarray[Any, np.dtype[Any]]:
        """Turn the network's output into what is written: float32, or label values."""
        if self.label_map is None:
            return output.numpy()
        values = self.label_map.to_values(output.argmax(0, keepdim=True).numpy())
        return values.astype(self.result_dtype)
