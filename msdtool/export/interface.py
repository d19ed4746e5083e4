"""What an exported network takes and returns, as plain data and in words."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from msdtool.border import edge_width
from msdtool.data.writers import label_dtype
from msdtool.errors import ModelFileError
from msdtool.runs.model import Model

SPACE = {2: ("height", "width"), 3: ("depth", "height", "width")}
INPUT, VALUES, PROBABILITIES, LABELS = "input", "output", "probabilities", "labels"


@dataclass(frozen=True)
class Interface:
    """The input and the outputs of an exported network, in the data's own units.

    Args:
        model: the network.
        name: what error messages call it.

    Raises:
        ModelFileError: it cannot be exported.
    """

    model: Model
    name: str

    def __post_init__(self) -> None:
        architecture = self.model.architecture
        if architecture.stream is not None:
            self._refuse("works on image sequences and remembers earlier frames")
        if architecture.outer is not None:
            self._refuse("has further layers (network.stem, network.head)")
        if architecture.hidden is not None:
            self._refuse("has hidden layers of its own (network.operation, activation, norm)")

    def _refuse(self, reason: str) -> None:
        raise ModelFileError(
            f"{self.name}: its network {reason}; only networks of convolutions and ReLU can be "
            "exported. Apply it with 'msdtool predict', or in Python with msdtool.load"
        )

    @property
    def space(self) -> tuple[str, ...]:
        """The names of the spatial axes."""
        return SPACE[self.model.architecture.ndim]

    @property
    def smallest(self) -> int:
        """The smallest size along each spatial axis; see `msdtool.border.largest_dilation`."""
        architecture = self.model.architecture
        if architecture.padding == "zeros":
            return 1
        return self.margin + edge_width(architecture.padding)

    @property
    def margin(self) -> int:
        """The largest dilation."""
        return max(self.model.architecture.dilations[: self.model.architecture.depth])

    @property
    def slice_channels(self) -> int:
        """Channels of each slice of the input; without slabs, of the input."""
        return self.model.architecture.c_in // (2 * self.model.slab + 1)

    @property
    def outputs(self) -> dict[str, np.dtype[Any]]:
        """Names and dtypes of the outputs."""
        if not self.model.labels:
            return {VALUES: np.dtype(np.float32)}
        return {
            PROBABILITIES: np.dtype(np.float32),
            LABELS: label_dtype(list(self.model.labels)),
        }

    def channels(self, name: str) -> int:
        """The number of channels of the input or an output."""
        if name == LABELS:
            return 1
        architecture = self.model.architecture
        return architecture.c_in if name == INPUT else architecture.c_out

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, which the exported files hold."""
        model = self.model
        return {
            "task": model.task,
            "axes": ["batch", "channel", *self.space],
            "smallest_size": self.smallest,
            "channels": {name: self.channels(name) for name in (INPUT, *self.outputs)},
            "labels": list(model.labels),
            "scaling": str(model.scaling),
            "slices": 2 * model.slab + 1,
            "splits": model.splits,
            "collapse_channels": model.collapse_channels,
        }

    def sentences(self) -> list[str]:
        """Say how the network is used."""
        model = self.model
        axes = ", ".join(("batch", "channel", *self.space))
        said = [
            f"Input: float32 values [{axes}] in the unit of the training images; they are scaled "
            f"inside ({model.scaling}). Any batch, and any size from {self.smallest} pixels."
        ]
        if model.slab:
            said.append(
                f"The channels are those of {2 * model.slab + 1} adjacent slices, the topmost "
                f"first, {self.slice_channels} of each; the output is of the central one. Beyond "
                "the first and last slice the volume is reflected: slice -1 is slice 1."
            )
        if model.collapse_channels:
            said.append("The single channel is the average of the channels of the image.")
        if model.interval:
            said.append(
                f"The first {model.channels} output channels are results; as many lower and as "
                f"many upper bounds follow, between which {model.interval:.4g} of targets lie."
            )
        if model.splits:
            said.append(
                f"It was trained on {model.splits} sub-reconstructions: average the outputs of "
                "those of other scans, or apply it to an unsplit reconstruction."
            )
        if not model.labels:
            return [*said, "Output: float32 values in the unit of the training targets."]
        values = ", ".join(map(str, model.labels))
        return [
            *said,
            f"Output '{PROBABILITIES}': float32, one channel for each of the labels {values}. "
            f"Output '{LABELS}': the value of the most probable one.",
        ]
