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
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from msdtool.config.agreement import find_problems
from msdtool.config.source import KeyPath, Origin
from msdtool.config.values import (
    parse_augment,
    parse_axes,
    parse_class_weights,
    parse_crop,
    parse_dtype,
    parse_duration,
    parse_factors,
    parse_label,
    parse_labels,
    parse_layer,
    parse_layers,
    parse_loss_terms,
    parse_range,
    parse_slices,
    parse_specifier,
    parse_splits,
    parse_strengths,
)
from msdtool.errors import ConfigError

Paths = Annotated[str | list[str], BeforeValidator(parse_specifier)]
Axes = Annotated[str, BeforeValidator(parse_axes)]
Dtype = Annotated[str, BeforeValidator(parse_dtype)]
Labels = Annotated[int | list[int], BeforeValidator(parse_labels)]
Layer = Annotated[str | dict[str, dict[str, Any]], BeforeValidator(parse_layer)]
Layers = Annotated[list[Any], BeforeValidator(parse_layers)]
Label = Annotated[int, BeforeValidator(parse_label)]
Crop = Annotated[int | list[int], BeforeValidator(parse_crop)]
Augment = Annotated[bool | str, BeforeValidator(parse_augment)]
Range = Annotated[list[float], BeforeValidator(parse_range)]
Factors = Annotated[list[float], BeforeValidator(parse_factors)]
Strengths = Annotated[list[float], BeforeValidator(parse_strengths)]
Slices = Annotated[list[list[int]], BeforeValidator(parse_slices)]
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
Splits = Annotated[list[Specifier], BeforeValidator(parse_splits)]


class ImagePairs(Section):
    """Images to train on and what the network shall make of them."""

    splits: Splits | None = Field(
        None,
        description="Noise2Inverse, instead of input and target: two or more specifiers of images "
        "of the same objects with independent noise, such as reconstructions from every fourth "
        "projection angle",
    )
    strategy: Literal["X:1", "1:X"] = Field(
        "X:1",
        description="which of the `splits` make input and target: the mean of all but one and that "
        "one, or one and the mean of the others",
    )
    input: Specifier | None = Field(
        None,
        validate_default=True,
        description="input images, needed without `splits`: a glob, folder, file, or list of "
        "these; `@list.txt` for the lines of a text file, `scan.h5::/data` for a dataset in a "
        "file; or a mapping `{path: ..., axes: ZCYX}`, for raw files also with `shape: [100, 512, "
        "512]` and `dtype: uint16`. `axes` has a letter per axis: X, Y, Z space, C channels, T "
        "counts images; by default it is what the file says, and an axis without a name takes, "
        "from the last axis on, the first of X, Y, Z, C that is free, so that three axes are ZYX",
    )
    target: Specifier | None = Field(
        None,
        validate_default=True,
        description="target images, paired with the inputs in natural order of their paths; "
        "needed without `splits`",
    )
    mask: Specifier | None = Field(
        None, description="mask images, one per pair: only pixels that are not 0 count"
    )

    @field_validator("input", "target", mode="before")
    @classmethod
    def _needed_without_splits(cls, value: Any, info: ValidationInfo) -> Any:
        # Splits that are wrong are not in the data, and are an error of their own.
        if value is None and info.data.get("splits", ...) is None:
            raise PydanticCustomError("missing", "missing")
        return value


class ValidationData(Section):
    """Images to validate on: a set of their own, or a part of the training set."""

    input: Specifier | None = Field(None, description="validation input images")
    target: Specifier | None = Field(None, description="validation target images")
    mask: Specifier | None = Field(None, description="validation masks")
    splits: Splits | None = Field(
        None, description="instead of input and target: as many splits as `data.train` has"
    )
    fraction: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="instead of the above: this fraction of the training images, picked at "
        "random with `training.seed`, is held out. Neighbouring slices of a volume look alike: "
        "of volumes hold out `slices`",
    )
    slices: Slices | None = Field(
        None,
        description="instead: hold out these slices of each volume (file, or folder of images): "
        "[200, 256] for 200 to 255, counted from 0, or a list of such ranges",
    )
    patch: Crop | None = Field(
        None,
        description="validate on a grid of windows of this size, each scored like an image; for "
        "images and volumes too big for the network's memory. One number, or one per axis",
    )
    overlap: int | None = Field(
        None,
        ge=0,
        description="pixels that neighbouring windows of `patch` share; each counts in one of "
        "them. Null: a quarter of the smallest side of `patch`",
    )

    @model_validator(mode="after")
    def _one_source(self) -> "ValidationData":
        is_set = self.input is not None or self.target is not None
        given = [
            is_set,
            self.splits is not None,
            self.fraction is not None,
            self.slices is not None,
        ]
        if sum(given) != 1 or (is_set and (self.input is None or self.target is None)):
            raise ValueError("give one of these: input and target; splits; fraction; slices")
        if self.mask is not None and not any(given[:2]):
            raise ValueError("the mask of held-out images is that of data.train; remove mask")
        return self


class ForegroundConfig(Section):
    """Crops that hold something of interest."""

    share: float = Field(
        gt=0, le=1, description="how many of the crops hold a pixel of the foreground, 0 to 1"
    )
    labels: list[Label] | None = Field(
        None,
        min_length=1,
        description="segmentation: the labels that are foreground, each drawn as often as the "
        "others. Null: all but the first of `data.labels`",
    )
    above: float | None = Field(
        None,
        description="regression: target values above this one are foreground. Null: where "
        "`data.train.mask` is not 0",
    )


class IntensityConfig(Section):
    """Ranges from which changes of the inputs' values are drawn for each sample."""

    blur: Strengths | None = Field(
        None,
        description="standard deviation of a Gaussian, in pixels, such as [0, 1]. These changes "
        "are applied to training inputs only, in this order",
    )
    gamma: Factors | None = Field(
        None,
        description="exponent on the values scaled to 0 to 1 between the sample's smallest and "
        "largest, such as [0.8, 1.25]",
    )
    gain: Factors | None = Field(None, description="factor, such as [0.9, 1.1]")
    offset: Range | None = Field(
        None,
        description="added, in standard deviations of the training inputs, such as [-0.1, 0.1]",
    )
    poisson_noise: Strengths | None = Field(
        None,
        description="counting noise: the value, in the data's own unit, of one counted event q; a "
        "value v gets the variance q v. Values below 0 stay as they are",
    )
    gaussian_noise: Strengths | None = Field(
        None,
        description="standard deviation, in standard deviations of the training inputs, such as "
        "[0, 0.2]",
    )


class DataConfig(Section):
    """Where images come from and how samples are made of them."""

    train: ImagePairs = Field(description="what to train on: keys input and target, or splits")
    validation: ValidationData | None = Field(
        None, description="without it the training loss decides which checkpoint is best"
    )
    labels: Labels | None = Field(
        None,
        description="segmentation: k for the labels 0 to k-1, or the list of label values in the "
        "target images, such as [0, 127, 255]",
    )
    ignore: Label | None = Field(
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
    crops_per_image: int = Field(
        1, ge=1, description="crops of each training image, or volume, in an epoch"
    )
    foreground: ForegroundConfig | None = Field(
        None, description="have crops hold something of interest more often"
    )
    fraction: float | None = Field(
        None,
        gt=0,
        le=1,
        description="train on this fraction of the training images, after those for validation "
        "were held out; picked at random with `training.seed`, a smaller part within a larger one",
    )
    slab: int = Field(
        0,
        ge=0,
        le=100,
        description="2.5D: this many slices above and below each one become channels of the input; "
        "the slices of a volume lie in one file, or one folder. Reflected at its ends",
    )
    augment: Augment = Field(
        False,
        description="turn and flip each training sample at random: 8 symmetries of images, 16 of "
        "slabs, 48 of volumes; `in_plane`: the 16 that keep a volume's slices slices. Those that "
        "change the shape are left out where a batch needs one shape",
    )
    intensity: IntensityConfig | None = Field(
        None, description="change the values of each training input at random"
    )
    workers: int = Field(
        0, ge=0, description="processes that read images; 0 reads ahead in a thread"
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
