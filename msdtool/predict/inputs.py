"""The images to predict, read as the training images were, whole or slice by slice."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from msdtool.data.readers import arrangement
from msdtool.data.specifiers import Specifier
from msdtool.errors import ConfigError
from msdtool.predict.jobs import Job
from msdtool.predict.memory import check_averaging
from msdtool.predict.own_levels import of_image, of_stack
from msdtool.predict.predictor import Predictor
from msdtool.predict.regions import Region, RegionStack


class Inputs:
    """The images of some files, in the form the network takes: slabs, or all splits together.

    Args:
        predictor: the network.
        specifiers: of the files; one for each split if the network averages splits.
        region: the part of each image that is wanted; None: all of it.

    Raises:
        InputError: there are no files, or they cannot be used together.
        ConfigError: a spread is asked for, and nothing is averaged.
    """

    def __init__(
        self, predictor: Predictor, specifiers: Sequence[Specifier], region: Region | None = None
    ) -> None:
        self.predictor, self.region = predictor, region
        self.stack, stacks = predictor.open_inputs(specifiers)
        self._whole = self.stack
        if region is not None:
            letters = "ZYX"[-predictor.ndim :]
            self.stack = RegionStack(self.stack, region, letters, predictor.reach)
        self.files = stacks[0].files()
        # Strips of a single input can be computed from file to file.
        self.num_inputs = len(stacks)
        self.is_streamable = len(stacks) * predictor.passes == 1
        if predictor.spread and self.is_streamable:
            raise ConfigError(
                "spread: the result is no average; average over several networks, symmetries or "
                "splits",
                hint_key="ensemble tta splits",
            )

    def images(self, job: Job) -> range:
        """Return which images of the stack belong to a job."""
        first, last = (job.slices or [job.location])[0], (job.slices or [job.location])[-1]
        images = range(self.files[first].start, self.files[last].stop)
        if self.region is None or job.slices:
            return images
        found = arrangement(job.location, self.predictor.ndim)
        part = self.region.images(found, str(job.location))
        return images[part.start : part.stop]

    def read(self, index: int) -> Tensor | None:
        """Read an image; return None for a series, or an image that is too large to be in memory.

        Raises:
            InputError: it cannot be read, or the network cannot work on it.
            Error: it is too large to average over networks, symmetries or splits.
        """
        predictor, space = self.predictor, self.stack.space(index)
        if predictor.series is not None:
            return None
        if self.is_streamable and not predictor.fits(space):
            return None
        if not self.is_streamable and predictor.device.type == "cpu":
            kept = 5 if predictor.spread else 2
            values = (self.num_inputs * predictor.c_in + kept * predictor.c_out) * math.prod(space)
            check_averaging(values, predictor.usable_bytes, self.stack.name(index))
        image = self.stack.read(index)
        predictor.check(image, self.stack.name(index))
        return image

    def levels(self, index: int, image: Tensor | None = None) -> Tensor | None:
        """Return by which levels an image is scaled, see `msdtool.predict.own_levels`.

        Those of a region are those of the whole image.

        Args:
            index: the image.
            image: what was read of it, if anything.

        Raises:
            InputError: it cannot be read, or has no contrast.
        """
        model = self.predictor.model
        if image is None or self.region is not None:
            return of_stack(model, self._whole, index)
        return of_image(model, image, self.stack.name(index))

    def pieces(
        self, index: int, axis: int, count: int, first: int = 0
    ) -> Iterator[tuple[int, Tensor]]:
        """Read an image piece by piece.

        Args:
            index: the image.
            axis: the spatial axis across which it is cut.
            count: slices of a piece; the last one may have fewer.
            first: the first slice to read.

        Yields:
            The first slice and the pixels [c_in, *space] of each piece.

        Raises:
            InputError: it cannot be read, or the network cannot work on it.
        """
        space = self.stack.space(index)
        window = [slice(0, size) for size in space]
        for start in range(first, space[axis], count):
            window[axis] = slice(start, min(start + count, space[axis]))
            piece = self.stack.read(index, tuple(window))
            self.predictor.check(piece, self.stack.name(index))
            yield start, piece


class ReadAhead:
    """Reads each image while the one before it is in use."""

    def __init__(self, inputs: Inputs, reader: ThreadPoolExecutor) -> None:
        self.inputs, self.reader = inputs, reader
        self.ahead: tuple[int, Future[Tensor | None]] | None = None

    def get(self, index: int, following: int | None) -> Tensor | None:
        """Return an image, see `Inputs.read`, and begin to read the one that follows.

        Args:
            index: the image.
            following: the one to read next, if any.

        Raises:
            InputError: see `Inputs.read`.
        """
        if self.ahead is None or self.ahead[0] != index:
            self._begin(index)
        assert self.ahead is not None
        image = self.ahead[1].result()
        self.ahead = None
        if following is not None:
            self._begin(following)
        return image

    def _begin(self, index: int) -> None:
        self.ahead = (index, self.reader.submit(self._read, index))

    def _read(self, index: int) -> Tensor | None:
        """An image, for a GPU in memory from which that copies on its own."""
        image, device = self.inputs.read(index), self.inputs.predictor.device
        return image if image is None or device.type != "cuda" else image.pin_memory()


class Slices:
    """An image in a file as an array [c_in, *space] of which ranges of slices are read."""

    def __init__(self, inputs: Inputs, index: int) -> None:
        self.inputs, self.index = inputs, index
        self.shape = (inputs.predictor.c_in, *inputs.stack.space(index))

    def __getitem__(self, key: Any) -> Any:
        window = (key[1], *(slice(0, size) for size in self.shape[2:]))
        pixels = self.inputs.stack.read(self.index, window)
        self.inputs.predictor.check(pixels, self.inputs.stack.name(self.index))
        return pixels.numpy()

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError("the input is only read")


class WrittenSlices:
    """An array [c_out, *space] whose slices are written to the results."""

    def __init__(self, shape: tuple[int, ...], write: Callable[[int, Tensor], None]) -> None:
        self.shape, self.write = shape, write

    def __getitem__(self, key: Any) -> Any:
        raise TypeError("the output is only written")

    def __setitem__(self, key: Any, value: Any) -> None:
        self.write(key[1].start, torch.from_numpy(value))
