"""The schema of an experiment: what each key means, its default and what it allows.

Models are frozen and refuse unknown keys. The README's table is made from these descriptions.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

from msdtool.config.agreement import find_problems
from msdtool.config.data_schema import DataConfig, Section
from msdtool.config.source import KeyPath, Origin
from msdtool.config.values import (
    parse_class_weights,
    parse_duration,
    parse_layer,
    parse_layers,
    parse_loss_terms,
)
from msdtool.errors import ConfigError

Layer = Annotated[str | dict[str, dict[str, Any]], BeforeValidator(parse_layer)]
Layers = Annotated[list[Any], BeforeValidator(parse_layers)]
ClassWeights = Annotated[str | list[float], BeforeValidator(parse_class_weights)]
Duration = Annotated[float, BeforeValidator(parse_duration)]

RegressionLoss = Literal["L1", "L2", "Huber", "L1+SSIM", "L2+SSIM"]
SegmentationLoss = Literal["cross_entropy", "dice", "cross_entropy+dice"]
LOSSES = {"regression": get_args(RegressionLoss), "segmentation": get_args(SegmentationLoss)}
LOSS_TERMS = {
    "regression": ("L1", "L2", "Huber", "SSIM", "Gram"),
    "segmentation": ("cross_entropy", "dice"),
}
"""Losses that can stand in a list with weights."""


def _loss_kind(value: Any) -> str:
    return "<terms>" if isinstance(value, list) else "<name>"


Loss = Annotated[
    Annotated[Literal[RegressionLoss, SegmentationLoss], Tag("<name>")]
    | Annotated[list[dict[str, float]], BeforeValidator(parse_loss_terms), Tag("<terms>")],
    Discriminator(_loss_kind),
]


class NetworkConfig(Section):
    """The Mixed-Scale Dense network."""

    depth: int = Field(100, ge=1, le=10_000, description="hidden layers")
    width: int = Field(1, ge=1, le=10_000, description="channels per hidden layer")
    dilations: list[Annotated[int, Field(ge=1)]] = Field(
        list(range(1, 11)),
        min_length=1,
        description="dilation of each layer, repeated from the start when the list ends",
    )
    ndim: Literal[2, 3] = Field(2, description="images or volumes")
    padding: Literal["symmetric", "reflect", "zeros"] = Field(
        "symmetric", description="what lies beyond the border; symmetric repeats the edge pixel"
    )
    stem: Layers = Field(
        [],
        description="layers in front of the network, such as [{ConvLayer: {nf: 4}}]; "
        "numbers of channels follow from what is in front",
    )
    head: Layers = Field([], description="layers behind the network; the last gives the output")
    features: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="channels that the network hands to `head`; null: as many as the output has",
    )
    operation: Layer = Field(
        "conv",
        description="what each hidden layer computes with its dilation: `conv`, the convolution "
        "3 wide, or a `GenericConv` with kernel and semifield. Others than `conv` and `ReLU`, and "
        "`norm`, are computed by plain torch, which is slower",
    )
    activation: Layer = Field("ReLU", description="behind each hidden layer")
    norm: Layer | None = Field(
        None,
        description="normalisation in front of each activation, such as `SyncBatchNorm`, which "
        "takes the batches of all GPUs together",
    )


class StreamConfig(Section):
    """How the network works on series of frames: time series, or the slices of volumes."""

    axis: Literal[0, 1, 2] = Field(
        0, description="which axis of a volume counts its frames: 0 is the slices"
    )
    dt: int = Field(
        16,
        ge=1,
        description="frames predicted together: memory depends on it, the result does not",
    )


class TrainingConfig(Section):
    """How the network learns."""

    epochs: int = Field(100, ge=1, description="passes over the training set")
    batch_size: int = Field(
        1,
        ge=1,
        description="images per step, over all processes together: each takes its share, so that "
        "an experiment is the same on any number of GPUs. Images that one process takes need one "
        "size",
    )
    accumulate: int = Field(1, ge=1, description="batches whose gradients are averaged per update")
    optimizer: Literal["adam", "adamw"] = Field("adam", description="update rule")
    learning_rate: float = Field(1e-3, gt=0, description="step size at the start")
    weight_decay: float = Field(0.0, ge=0, description="decoupled for adamw, L2 penalty for adam")
    schedule: Literal["constant", "cosine", "plateau"] = Field(
        "constant",
        description="learning rate over time: cosine falls to 0 at the last epoch, plateau halves "
        "it after `plateau_patience` validations (without any: epochs) without improvement",
    )
    plateau_patience: int = Field(5, ge=1, description="validations, for `schedule: plateau`")
    gradient_clip: float | None = Field(
        None, gt=0, description="largest norm of the whole gradient"
    )
    cuda_graphs: bool = Field(
        False,
        description="start a step's kernels together, for small images of few sizes, which take a "
        "GPU less time than starting them one by one; one process",
    )
    loss: Loss = Field(
        "L2",
        description="what is minimised: the first five for regression (default L2), in units of "
        "the targets' standard deviation; the last three for segmentation (default cross_entropy). "
        "Or a list with weights, such as [{L2: 1}, {Gram: 0.1}], of L1, L2, Huber, SSIM and Gram "
        "(textures), or of cross_entropy and dice",
    )
    huber_delta: float = Field(
        1.0, gt=0, description="where Huber turns linear, in target standard deviations"
    )
    ssim_weight: float = Field(0.84, gt=0, lt=1, description="share of 1 - SSIM in the SSIM mixes")
    class_weights: ClassWeights | None = Field(
        None,
        description="segmentation: `balanced` (inverse frequency in the training targets) or one "
        "number per label, for cross_entropy",
    )
    validate_every: int = Field(1, ge=1, description="epochs between validations")
    patience: int | None = Field(
        None, ge=1, description="stop after this many validations without improvement"
    )
    max_time: Duration | None = Field(
        None,
        description="stop after this much training time, in mid-epoch if need be, such as 90m, "
        "11.5h or 11:30:00",
    )
    checkpoint_every: Duration = Field(
        600.0, description="longest time between two checkpoints, such as 10m"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="all randomness follows from it")
    deterministic: bool = Field(
        False, description="refuse GPU operations that may give different bits on each run"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto takes the GPU if there is one"
    )

    @property
    def loss_terms(self) -> dict[str, float]:
        """The weight of each term of the loss."""
        if not isinstance(self.loss, str):
            return {name: weight for term in self.loss for name, weight in term.items()}
        first, _, second = self.loss.partition("+")
        if second == "SSIM":
            return {first: 1 - self.ssim_weight, second: self.ssim_weight}
        return {first: 1.0, second: 1.0} if second else {first: 1.0}


class RunConfig(Section):
    """Where results go."""

    directory: str = Field("runs/experiment", min_length=1, description="the run directory")
    previews: bool = Field(
        True, description="pictures of the best, typical and worst validation image"
    )
    tensorboard: bool = Field(False, description="also write TensorBoard logs (an extra)")


class ExperimentConfig(Section):
    """A whole experiment."""

    task: Literal["regression", "segmentation"] = Field(description="what the network is for")
    data: DataConfig
    network: NetworkConfig = Field(default_factory=NetworkConfig)
    stream: StreamConfig | None = Field(
        None,
        description="take each volume (`network.ndim: 3`) for a series of frames: hidden layers "
        "work on each frame, only temporal layers in `network.stem` and `network.head` link them, "
        "looking back. Prediction then needs no more memory than for a few frames",
    )
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    run: RunConfig = Field(default_factory=RunConfig)

    @model_validator(mode="before")
    @classmethod
    def _default_loss(cls, value: Any) -> Any:
        """The loss' default depends on the task, so the saved config names the one used."""
        if not isinstance(value, dict) or value.get("task") != "segmentation":
            return value
        training = value.get("training") or {}
        if not isinstance(training, dict):
            return value
        return {**value, "training": {"loss": "cross_entropy", **training}}

    @model_validator(mode="after")
    def _keys_agree(self) -> "ExperimentConfig":
        problems = find_problems(self, LOSSES[self.task], LOSS_TERMS[self.task])
        if problems:
            raise PydanticCustomError("keys_disagree", "keys disagree", {"problems": problems})
        return self

    _origin: Origin = PrivateAttr(default_factory=Origin)

    def error(self, path: KeyPath, message: str) -> ConfigError:
        """An error about a key that only shows when the network is built, with file and line."""
        return ConfigError(self._origin.describe(path, message))

    @property
    def label_values(self) -> list[int]:
        """Label values in the target images, in the order of the network's output channels."""
        labels = self.data.labels
        if labels is None:
            return []
        return list(range(labels)) if isinstance(labels, int) else labels

    @property
    def num_labels(self) -> int:
        """How many labels there are; 0 for regression."""
        return len(self.label_values)

    def convolved(self, size: Sequence[int]) -> tuple[int, ...]:
        """The part of a size, per spatial axis, that the network's convolutions extend over."""
        is_time = None if self.stream is None else self.stream.axis
        return tuple(pixels for axis, pixels in enumerate(size) if axis != is_time)

    @property
    def crop_size(self) -> tuple[int, ...] | None:
        """Crop size per spatial axis, or None for whole images."""
        return self._per_axis(self.data.crop)

    @property
    def patch_size(self) -> tuple[int, ...] | None:
        """Size of validation patches per spatial axis, or None for whole images."""
        return None if self.data.validation is None else self._per_axis(self.data.validation.patch)

    def _per_axis(self, size: int | list[int] | None) -> tuple[int, ...] | None:
        if size is None:
            return None
        return (size,) * self.network.ndim if isinstance(size, int) else tuple(size)

    @property
    def patch_overlap(self) -> int:
        """Pixels that neighbouring validation patches share."""
        validation, size = self.data.validation, self.patch_size
        assert validation is not None and size is not None
        return min(size) // 4 if validation.overlap is None else validation.overlap
