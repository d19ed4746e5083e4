"""The schema of an experiment: what each key means, its default and what it allows.

Models are frozen and refuse unknown keys. The README's table is made from these descriptions.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

from msdtool.config.agreement import find_problems
from msdtool.config.source import KeyPath, Origin
from msdtool.config.values import (
    parse_axes,
    parse_class_weights,
    parse_crop,
    parse_dtype,
    parse_duration,
    parse_label,
    parse_labels,
    parse_layer,
    parse_layers,
    parse_specifier,
)
from msdtool.errors import ConfigError

Paths = Annotated[str | list[str], BeforeValidator(parse_specifier)]
Axes = Annotated[str, BeforeValidator(parse_axes)]
Dtype = Annotated[str, BeforeValidator(parse_dtype)]
Labels = Annotated[int | list[int], BeforeValidator(parse_labels)]
Layer = Annotated[str | dict[str, dict[str, Any]], BeforeValidator(parse_layer)]
Layers = Annotated[list[Any], BeforeValidator(parse_layers)]
Crop = Annotated[int | list[int], BeforeValidator(parse_crop)]
ClassWeights = Annotated[str | list[float], BeforeValidator(parse_class_weights)]
Duration = Annotated[float, BeforeValidator(parse_duration)]

RegressionLoss = Literal["L1", "L2", "Huber", "L1+SSIM", "L2+SSIM"]
SegmentationLoss = Literal["cross_entropy", "dice", "cross_entropy+dice"]
LOSSES = {"regression": get_args(RegressionLoss), "segmentation": get_args(SegmentationLoss)}


class Section(BaseModel):
    """Base of all sections."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )


class ImageSource(Section):
    """Images, and what their files do not say."""

    path: Paths = Field(description="a glob, folder, file, or list of these")
    axes: Axes | None = Field(
        None,
        description="a letter per axis of the arrays, such as ZCYX: X, Y, Z space, C channels, T "
        "counts images. Null: the names that the file gives; an axis without one takes, from the "
        "last axis on, the first of X, Y, Z, C that is free, so that three axes are ZYX",
    )
    shape: list[Annotated[int, Field(ge=1)]] | None = Field(
        None, min_length=1, description="of raw files, which hold nothing but pixels"
    )
    dtype: Dtype | None = Field(
        None, description="of raw files: uint16, float32, >u2 (big-endian) ..."
    )

    @model_validator(mode="after")
    def _raw(self) -> "ImageSource":
        if (self.shape is None) != (self.dtype is None):
            raise ValueError("a raw file needs both shape and dtype, any other file neither")
        if self.shape and self.axes and len(self.shape) != len(self.axes):
            raise ValueError(f"axes {self.axes} names another number of axes than shape has")
        return self


def _specifier_kind(value: Any) -> str:
    return "<source>" if isinstance(value, (dict, ImageSource)) else "<paths>"


Specifier = Annotated[
    Annotated[Paths, Tag("<paths>")] | Annotated[ImageSource, Tag("<source>")],
    Discriminator(_specifier_kind),
]
"""Tags in angle brackets are no keys; messages leave them out."""


class ImagePairs(Section):
    """Images to train on and what the network shall make of them."""

    input: Specifier = Field(
        description="input images: a glob, folder, file, or list of these; `@list.txt` for the "
        "lines of a text file, `scan.h5::/data` for a dataset in a file; or a mapping `{path: ..., "
        "axes: ZCYX}`, for raw files also with `shape: [100, 512, 512]` and `dtype: uint16`. `axes`"
        " has a letter per axis: X, Y, Z space, C channels, T counts images; by default it is what "
        "the file says, and an axis without a name takes, from the last axis on, the first of X, "
        "Y, Z, C that is free, so that three axes are ZYX"
    )
    target: Specifier = Field(
        description="target images, paired with the inputs in natural order of their paths"
    )
    mask: Specifier | None = Field(
        None, description="mask images, one per pair: only pixels that are not 0 count"
    )


class ValidationData(Section):
    """Images to validate on: a set of their own, or a fraction of the training set."""

    input: Specifier | None = Field(None, description="validation input images")
    target: Specifier | None = Field(None, description="validation target images")
    mask: Specifier | None = Field(None, description="validation masks")
    fraction: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="instead of the three above: this fraction of the training pairs, picked at "
        "random with `training.seed`, is held out. Neighbouring slices of a volume look alike: "
        "for them name a validation set of its own",
    )

    @model_validator(mode="after")
    def _one_or_the_other(self) -> "ValidationData":
        if self.fraction is None and (self.input is None or self.target is None):
            raise ValueError("give both input and target, or fraction")
        if self.fraction is not None and (self.input or self.target or self.mask):
            raise ValueError("give either input and target, or fraction, not both")
        return self


class DataConfig(Section):
    """Where images come from and how samples are made of them."""

    train: ImagePairs
    validation: ValidationData | None = Field(
        None, description="without it the training loss decides which checkpoint is best"
    )
    labels: Labels | None = Field(
        None,
        description="segmentation: k for the labels 0 to k-1, or the list of label values in the "
        "target images, such as [0, 127, 255]",
    )
    ignore: Annotated[int, BeforeValidator(parse_label)] | None = Field(
        None, description="segmentation: target pixels of this value do not count"
    )
    collapse_channels: bool = Field(
        False, description="average the channels of each image (colour to grey)"
    )
    crop: Crop | None = Field(
        None,
        description="train on random crops of this size: one number, or one per spatial axis. "
        "Null: whole images",
    )
    augment: bool = Field(
        False,
        description="turn and flip each training sample at random (8 symmetries, in-plane for "
        "volumes; only the 4 that keep the shape where a batch needs one shape)",
    )
    workers: int = Field(
        0, ge=0, description="processes that read images; 0 reads in the main process"
    )
    cache: bool = Field(False, description="keep all decoded images in memory")
    data_range: float | None = Field(
        None,
        gt=0,
        description="regression: value range that PSNR and SSIM refer to. Null: the largest minus "
        "the smallest value of the training targets",
    )


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
    loss: Literal[RegressionLoss, SegmentationLoss] = Field(
        "L2",
        description="what is minimised: the first five for regression (default L2), in units of "
        "the targets' standard deviation; the last three for segmentation (default cross_entropy)",
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
        problems = find_problems(self, LOSSES[self.task])
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
        crop = self.data.crop
        if crop is None:
            return None
        return (crop,) * self.network.ndim if isinstance(crop, int) else tuple(crop)
