"""What a checkpoint holds: a model with its normalisation, and the state of its training."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn

from msdtool.architecture import Architecture
from msdtool.runs.training_progress import TrainingProgress
from msdtool.scaling import Scaling

FORMAT = "msdtool checkpoint"
VERSION = 1
NOT_TRAINED = ("running_mean", "running_var", "num_batches_tracked", "._pos_grid", "._u", "._v")
"""Ends of the names of a network's tensors that are measured or fixed, not trained."""


@dataclass(frozen=True)
class Normalisation:
    """Statistics of the training set, per channel.

    Attributes:
        input_mean: of each input channel.
        input_std: of each input channel.
        target_mean: of each target channel; empty for a segmentation.
        target_std: of each target channel; empty for a segmentation.
        data_range: value range that PSNR and SSIM refer to; 0 for a segmentation.
        label_counts: training pixels per label; empty for a regression.
        own_range: range of the targets scaled by levels of their image, where they are; 0: they
            are not. Statistics of images that are scaled so are those of scaled values.
    """

    input_mean: tuple[float, ...]
    input_std: tuple[float, ...]
    target_mean: tuple[float, ...]
    target_std: tuple[float, ...]
    data_range: float
    label_counts: tuple[int, ...]
    own_range: float = 0.0

    @property
    def loss_range(self) -> float:
        """The value range of the targets that a loss sees."""
        return self.own_range or self.data_range

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as a checkpoint file holds it."""
        content = _with_lists(vars(self))
        if not self.own_range:
            del content["own_range"]
        return content


@dataclass(frozen=True)
class Model:
    """A trained network and everything needed to apply it.

    Attributes:
        task: "regression" or "segmentation".
        architecture: of the network.
        state: its tensors, on the CPU.
        normalisation: statistics of the images that it was trained on.
        labels: label values in the order of the output channels; empty for a regression.
        ignore: target pixels of this value do not count.
        collapse_channels: the channels of each image are averaged.
        slab: slices above, and below, the central one that the input's channels hold.
        splits: sub-reconstructions that the network was trained on (Noise2Inverse); 0: none.
        strategy: which of these make an input: "X:1", all but one; "1:X", one.
        scaling: how images are scaled.
        interval: fraction of the targets that lie between the bounds, which the network outputs
            after its results, first all lower ones; 0: there are none.
    """

    task: str
    architecture: Architecture
    state: dict[str, Tensor]
    normalisation: Normalisation
    labels: tuple[int, ...]
    ignore: int | None
    collapse_channels: bool
    slab: int = 0
    splits: int = 0
    strategy: str = "X:1"
    scaling: Scaling = field(default_factory=Scaling)
    interval: float = 0.0

    @classmethod
    def of(
        cls,
        network: nn.Module,
        task: str,
        architecture: Architecture,
        normalisation: Normalisation,
        *,
        labels: Sequence[int] = (),
        ignore: int | None = None,
        collapse_channels: bool = False,
        slab: int = 0,
        splits: int = 0,
        strategy: str = "X:1",
        scaling: Scaling | None = None,
        interval: float = 0.0,
    ) -> "Model":
        """Describe a network; the arguments are the attributes.

        The state of a network on the CPU is not copied: it changes when the network is trained.
        """
        return cls(
            task=task,
            architecture=architecture,
            state={name: tensor.detach().cpu() for name, tensor in network.state_dict().items()},
            normalisation=normalisation,
            labels=tuple(labels),
            ignore=ignore,
            collapse_channels=collapse_channels,
            slab=slab,
            splits=splits,
            strategy=strategy,
            scaling=scaling or Scaling(),
            interval=interval,
        )

    @property
    def channels(self) -> int:
        """Channels of a result, without its bounds; of a segmentation the number of labels."""
        return self.architecture.c_out // (3 if self.interval else 1)

    @property
    def num_parameters(self) -> int:
        """Number of trained parameters; scaling layers and running statistics do not count."""
        return num_parameters(self.state)

    def to_dict(self) -> dict[str, Any]:
        """Return tensors and plain data, as a checkpoint file holds them."""
        content = _with_lists(vars(self)) | {
            "architecture": self.architecture.to_dict(),
            "normalisation": self.normalisation.to_dict(),
        }
        if not self.interval:
            del content["interval"]
        how = content.pop("scaling").to_dict()
        return content | {"scaling": how} if how else content


@dataclass(frozen=True)
class Checkpoint:
    """A model, where it comes from, and what is needed to train it further.

    Attributes:
        model: the network.
        config: the experiment with all defaults, as plain data; empty if there was none.
        progress: how far training has progressed.
        metrics: the last validation metrics.
        versions: of the packages that wrote it.
        training: states of optimizer and schedule and the length of metrics.jsonl, and the
            network's own weights where the model has their average; empty in a checkpoint that
            is for prediction only.
    """

    model: Model
    config: dict[str, Any]
    progress: TrainingProgress
    metrics: dict[str, Any]
    versions: dict[str, str]
    training: dict[str, Any]

    @property
    def data_range(self) -> float | None:
        """The value range for PSNR and SSIM that the experiment's config names, if it does."""
        value: float | None = self.config.get("data", {}).get("data_range")
        return value

    def to_dict(self) -> dict[str, Any]:
        """Return tensors and plain data, as a checkpoint file holds them."""
        own = {"model": self.model.to_dict(), "progress": asdict(self.progress)}
        return {"format": FORMAT, "version": VERSION, **vars(self), **own}


def num_parameters(state: dict[str, Tensor]) -> int:
    """Count the trained parameters in the state dict of a `msdtool.nn.scaling.ScaledNetwork`."""
    return sum(
        tensor.numel()
        for name, tensor in state.items()
        if not name.startswith(("scale_in.", "scale_out.")) and not name.endswith(NOT_TRAINED)
    )


def _with_lists(content: dict[str, Any]) -> dict[str, Any]:
    """Keys and values with lists in place of tuples, as YAML and JSON have them."""
    return {key: list(v) if isinstance(v, tuple) else v for key, v in content.items()}
