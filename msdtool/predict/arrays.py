"""A trained network in Python: arrays in, arrays out."""

from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from msdtool.data.axes import Arrangement, arrange
from msdtool.data.containers import Array
from msdtool.data.letters import UNNAMED
from msdtool.data.slabs import reflected
from msdtool.data.stacks import to_float
from msdtool.errors import InputError
from msdtool.predict.memory import parse_memory
from msdtool.predict.own_levels import of_image
from msdtool.predict.predictor import Predictor
from msdtool.progress import Progress, no_progress

NAME = "array"
A = TypeVar("A", Array, Tensor)


class Network:
    """A trained network, applied to arrays as `msdtool predict` applies it to files.

    Args:
        predictor: the network, and where to compute.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    @property
    def labels(self) -> list[int]:
        """The label values of a segmentation; empty for a regression."""
        return list(self._predictor.model.labels)

    @property
    def ndim(self) -> int:
        """Number of spatial axes of an image: 2 or 3."""
        return self._predictor.ndim

    @property
    def channels(self) -> int:
        """Number of channels that an image must have; 1 if these are averaged."""
        return self._predictor.c_in // (2 * self._predictor.model.slab + 1)

    def predict(
        self,
        array: A,
        axes: str | None = None,
        *,
        probabilities: bool = False,
        progress: Progress = no_progress,
    ) -> A:
        """Apply the network to an image, a volume, or several of them in one array.

        Args:
            array: real numbers of any type, of any size; what does not fit in memory is computed
                in strips.
            axes: a letter per axis, such as "ZCYX", as in a config: X, Y, Z are space, C channels,
                T counts images, and so does Z for a network of images. None: unnamed axes are
                filled from the last backwards in the order X, Y, Z, C.
            probabilities: of a segmentation, return the probability of each label.
            progress: called with the number of images that are done and the number of all.

        Returns:
            Of the same kind, on the same device: [*counted, C, *space], without C if there is one
            channel. float32 values, or label values in the smallest type that holds them.

        Raises:
            InputError: the array has not the axes or channels that the network needs, or contains
                values that are not finite.
            Error: it does not fit in memory, not even in strips.
        """
        if probabilities and not self.labels:
            raise InputError("probabilities: the network is for regression and has none")
        if isinstance(array, Tensor):
            found = self._predict(array.detach().cpu().numpy(), axes, probabilities, progress)
            return torch.from_numpy(found).to(array.device)
        return self._predict(np.asarray(array), axes, probabilities, progress)

    def _predict(
        self, array: Array, axes: str | None, probabilities: bool, progress: Progress
    ) -> Array:
        if array.dtype.kind not in "biuf":
            raise InputError(f"{NAME}: values of type {array.dtype} are not real numbers")
        found = arrange(UNNAMED * array.ndim, array.shape, self.ndim, axes, NAME)
        results = []
        for index in range(found.num_images):
            name = f"{NAME}[{index}]" if found.num_images > 1 else NAME
            image = self._read(array, found, index)
            self._predictor.check(image, name)
            output = self._compute(image, name)
            is_labels = self.labels and not probabilities
            if is_labels or not self.labels:
                results.append(self._predictor.to_image(output))
            else:
                results.append(output.softmax(0).numpy())
            progress(index + 1, found.num_images)
        counts = tuple(found.shape[axis] for axis in found.counting)
        stacked = np.stack(results)
        shape = stacked.shape[1:] if stacked.shape[1] > 1 else stacked.shape[2:]
        return stacked.reshape(counts + shape)

    def _read(self, array: Array, found: Arrangement, index: int) -> Tensor:
        """An image [c_in, *space], with its neighbours if the network takes slabs."""
        reach, collapse = self._predictor.model.slab, self._predictor.model.collapse_channels
        places = [reflected(index + step, found.num_images) for step in range(-reach, reach + 1)]
        images = [found.to_image(array[found.key(place)]) for place in places]
        return torch.cat([to_float(image, collapse) for image in images])

    def _compute(self, image: Tensor, name: str) -> Tensor:
        series = self._predictor.series
        if series is None:
            return self._predictor(image, name)
        levels = of_image(self._predictor.model, image, name)
        series.clear_state()
        try:
            pieces = image.split(series.dt, 1 + series.axis)
            return torch.cat(
                [self._predictor.advance(piece, name, levels) for piece in pieces],
                1 + series.axis,
            )
        finally:
            series.clear_state()


def load(
    path: str | Path,
    device: str = "auto",
    *,
    memory: int | str | None = None,
    scratch: str | Path | None = None,
    tta: bool = False,
) -> Network:
    """Load a run directory's best network, or a checkpoint file, to apply it to arrays.

    Args:
        path: the run directory or the file.
        device: "auto", "cpu" or "cuda".
        memory: limit of the memory of this process on the CPU, in bytes or as "2GB".
        scratch: folder for temporary files of images that are computed in strips.
        tta: average over the symmetries of an image.

    Raises:
        ModelFileError: there is no checkpoint, or it cannot be used.
    """
    limit = parse_memory(memory) if isinstance(memory, str) else memory
    folder = None if scratch is None else Path(scratch)
    return Network(Predictor.load(path, device, memory_bytes=limit, scratch=folder, tta=tta))
