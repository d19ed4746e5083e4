"""The `data` section of an experiment: where images come from and how samples are made of them."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from msdtool.config.values import (
    parse_augment,
    parse_axes,
    parse_crop,
    parse_dtype,
    parse_factors,
    parse_label,
    parse_labels,
    parse_range,
    parse_slices,
    parse_specifier,
    parse_splits,
    parse_strengths,
)

Paths = Annotated[str | list[str], BeforeValidator(parse_specifier)]
Axes = Annotated[str, BeforeValidator(parse_axes)]
Dtype = Annotated[str, BeforeValidator(parse_dtype)]
Labels = Annotated[int | list[int], BeforeValidator(parse_labels)]
Label = Annotated[int, BeforeValidator(parse_label)]
Crop = Annotated[int | list[int], BeforeValidator(parse_crop)]
Augment = Annotated[bool | str, BeforeValidator(parse_augment)]
Range = Annotated[list[float], BeforeValidator(parse_range)]
Factors = Annotated[list[float], BeforeValidator(parse_factors)]
Strengths = Annotated[list[float], BeforeValidator(parse_strengths)]
Slices = Annotated[list[list[int]], BeforeValidator(parse_slices)]


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
