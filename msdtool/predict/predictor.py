"""A trained network applied to images in memory or on disk, whole or in strips."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
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
from msdtool.errors import ConfigError, InputError
from msdtool.predict.computation import Computation
from msdtool.predict.encoding import Encoding, Pixels
from msdtool.predict.ensemble import Spread, check_alike
from msdtool.predict.network import digest
from msdtool.predict.own_levels import of_image
from msdtool.predict.plausibility import Plausibility
from msdtool.predict.regions import reach
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


class Predictor(Computation):
    """A trained network and what it needs to read and write images.

    Args:
        model: the network, as a checkpoint holds it.
        device: "auto", "cpu" or "cuda".
        name: what error messages call the model.
        memory_bytes, scratch: see `Computation`.
        tta: test-time augmentation: average over the eight symmetries of
            `msdtool.predict.symmetries`.
        scale_input: images from files are multiplied by it first, to bring them to the unit of the
            training images.
        ensemble: further networks, by name, over which results are averaged, too.
        spread: results have the standard deviation of what is averaged behind them.

    Raises:
        ModelFileError: the weights do not fit the architecture.
        ConfigError: a network that works on image sequences cannot be averaged, networks are not
            for the same images, or the process already takes as much as the limit.
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
        scale_input: float = 1.0,
        ensemble: Mapping[str, Model] | None = None,
        spread: bool = False,
    ) -> None:
        super().__init__(model, device, name, memory_bytes=memory_bytes, scratch=scratch)
        if tta and self.series is not None:
            raise ConfigError(
                f"tta: {name} works on image sequences, whose axes cannot be exchanged or flipped; "
                "turn it off",
                hint_key="tta",
            )
        self.others: list[Computation] = []
        for other, found in (ensemble or {}).items():
            check_alike(name, model, other, found)
            self.others.append(
                Computation(found, device, other, memory_bytes=memory_bytes, scratch=scratch)
            )
        self.spread = spread
        if not scale_input or not math.isfinite(scale_input):
            raise ConfigError(
                f"scale_input: got {scale_input:g}; expected a finite number other than 0",
                hint_key="scale_input",
            )
        self.tta, self.scale_input = tta, scale_input
        self.plausibility = Plausibility(model.normalisation, any_unit=model.scaling.is_per_image)

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str = "auto",
        ensemble: Sequence[str | Path] = (),
        **options: Any,
    ) -> "Predictor":
        """Load a run directory's best checkpoint, or a checkpoint file, and those of an ensemble.

        Raises:
            ModelFileError: there is no checkpoint, or it cannot be used.
        """
        file, *files = (find_model(name) for name in (path, *ensemble))
        others = {str(other): load_checkpoint(other).model for other in files}
        if len({file, *files}) <= len(files):
            raise ConfigError(
                "ensemble: names a network twice; name different ones", hint_key="ensemble"
            )
        return cls(load_checkpoint(file).model, device, str(file), ensemble=others, **options)

    @cached_property
    def digest(self) -> str:
        """A hash that identifies this network and the way it is used."""
        scaled = "" if self.scale_input == 1 else f" {self.scale_input!r}"
        others = "".join(f" {digest(member.model, '')}" for member in self.others)
        return digest(self.model, f"{self.tta}{scaled}{others}")

    @property
    def passes(self) -> int:
        """How many results of an input are averaged."""
        return (1 + len(self.others)) * (len(symmetries(self.ndim)) if self.tta else 1)

    @property
    def reach(self) -> int | None:
        """How far from an output pixel input pixels change it; see `msdtool.predict.regions`."""
        found = [reach(member.model.architecture) for member in (self, *self.others)]
        known = [far for far in found if far is not None]
        return max(known) if len(known) == len(found) else None

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
            factor=self.scale_input,
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
        check_finite(image, name, "replace them", self.model.slab)
        self.plausibility.check_input(image, name)

    def __call__(
        self,
        image: Tensor,
        name: str = "image",
        progress: Progress = no_progress,
        levels: Tensor | None = None,
    ) -> Tensor:
        """Map an image [c_in, *space] to the network's output [c_out, *`result_space`], on the CPU.

        For several inputs [n * c_in, *space], which splits make, the outputs are averaged; with
        `tta` over the symmetries as well, and with an `ensemble` over the networks. Labels are
        averaged as probabilities, and the logarithm of these is returned. With `spread`, as many
        channels follow: the standard deviation of what is averaged (divided by its number, not by
        one less), of labels that of the probabilities.

        Args:
            image: the image.
            name: what errors call it.
            progress: called after each part.
            levels: by which its inputs are scaled, see `msdtool.predict.own_levels`; None: the
                image is a whole one, whose levels are measured.

        Raises:
            InputError: the image is too small for the network's dilations, the output is constant
                because the image is in another unit than the training images, or the image has no
                contrast by which it could be scaled.
            Error: it does not fit in memory, not even in strips.
        """
        if levels is None:
            levels = of_image(self.model, image, name)
        output = self._average(image, name, progress, levels)
        labels = self.label_map is not None
        self.plausibility.check_output(image, output[: self.c_out], name, labels=labels)
        return output

    def _average(
        self, image: Tensor, name: str, progress: Progress, levels: Tensor | None
    ) -> Tensor:
        """Average over inputs, symmetries and networks; see `__call__`."""
        inputs = image.unflatten(0, (-1, self.c_in)).unbind()
        ways = symmetries(self.ndim) if self.tta else symmetries(self.ndim)[:1]
        count = len(inputs) * self.passes
        if count == 1:
            own = None if levels is None else levels[0]
            return self.compute(image, name, progress, own)
        total = torch.zeros(self.c_out, *self.result_space(image.shape[1:]))
        spread = Spread() if self.spread else None
        all_ways = product(enumerate(inputs), ways, [self, *self.others])
        for number, ((place, one), way, member) in enumerate(all_ways):
            own = None if levels is None else levels[place]
            output = member.compute(way.apply(one), name, _part(progress, number, count), own)
            output = way.undo(output.softmax(0) if self.label_map else output)
            total += output
            if spread is not None:
                spread.add(output)
        total *= 1 / count
        result = total.log_() if self.label_map else total
        return result if spread is None else torch.cat([result, spread.value])

    # Results -----------------------------------------------------------------------------------

    @property
    def result_dtype(self) -> np.dtype[Any]:
        """The dtype of results."""
        return label_dtype(self.label_map.values) if self.label_map else np.dtype(np.float32)

    def pixels(self, encoding: Encoding) -> Pixels:
        """Return what results hold in an encoding."""
        channels = self.model.channels if self.label_map is None else 1
        return encoding.pixels(channels, self.ndim, self.result_dtype)

    def to_image(self, output: Tensor) -> np.ndarray[Any, np.dtype[Any]]:
        """Convert the network's output to what is written: float32, or label values."""
        if self.label_map is None:
            return output[: self.model.channels].numpy()
        values = self.label_map.to_values(output.argmax(0, keepdim=True).numpy())
        return values.astype(self.result_dtype)
