"""The images that an experiment names: those to train on and those to validate on."""

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from msdtool.config import value_schemas
from msdtool.config.section import Section
from msdtool.config.value_schemas import absent, either, given
from msdtool.config.values import (
    parse_axes,
    parse_blind_mask,
    parse_crop,
    parse_dtype,
    parse_slices,
    parse_specifier,
    parse_splits,
)
from msdtool.specifier_grammar import Source

Paths = Annotated[
    str | list[str], BeforeValidator(parse_specifier), WithJsonSchema(value_schemas.PATHS)
]
Axes = Annotated[str, BeforeValidator(parse_axes), WithJsonSchema(value_schemas.AXES)]
Dtype = Annotated[str, BeforeValidator(parse_dtype), WithJsonSchema(value_schemas.DTYPE_NAME)]
Crop = Annotated[int | list[int], BeforeValidator(parse_crop), WithJsonSchema(value_schemas.CROP)]
Slices = Annotated[
    list[list[int]], BeforeValidator(parse_slices), WithJsonSchema(value_schemas.SLICES)
]


class ImageSource(Section):
    """The YAML form of a `Source`: images, and what their files do not record."""

    model_config = ConfigDict(
        json_schema_extra=either([given("shape", "dtype")], [absent("shape", "dtype")])
    )

    path: Paths = Field(description="a glob, folder, file, or list of these")
    axes: Axes | None = Field(
        None,
        description="a letter per axis of the arrays, such as ZCYX: X, Y, Z space, C channels, T "
        "counts images. Null: the names in the file; unnamed axes are filled from the last "
        "backwards in the order X, Y, Z, C, so that three axes are ZYX",
    )
    shape: list[Annotated[int, Field(ge=1)]] | None = Field(
        None, min_length=1, description="of raw files, which contain nothing but pixels"
    )
    dtype: Dtype | None = Field(
        None, description="of raw files: uint16, float32, >u2 (big-endian) ..."
    )

    @model_validator(mode="after")
    def _raw(self) -> "ImageSource":
        if (self.shape is None) != (self.dtype is None):
            raise ValueError("a raw file needs both shape and dtype, any other file neither")
        if self.shape and self.axes and len(self.shape) != len(self.axes):
            raise ValueError(
                f"axes {self.axes} names {len(self.axes)} axes, shape has {len(self.shape)}"
            )
        return self

    def to_source(self) -> Source:
        """Return the source as the data package reads it."""
        shape = None if self.shape is None else tuple(self.shape)
        return Source(self.path, axes=self.axes, shape=shape, dtype=self.dtype)


def _specifier_kind(value: Any) -> str:
    return "<source>" if isinstance(value, (dict, ImageSource)) else "<paths>"


Specifier = Annotated[
    Annotated[Paths, Tag("<paths>")] | Annotated[ImageSource, Tag("<source>")],
    Discriminator(_specifier_kind),
]
"""Tags in angle brackets are not keys; messages leave them out."""
BlindMask = Annotated[
    dict[str, int], BeforeValidator(parse_blind_mask), WithJsonSchema(value_schemas.BLIND_MASK)
]
Splits = Annotated[Annotated[list[Specifier], Field(min_length=2)], BeforeValidator(parse_splits)]


class BlindSpotConfig(Section):
    """Noise2Void: hidden pixels that the network has to predict from what is around them."""

    fraction: float = Field(
        1 / 64,
        gt=0,
        le=0.25,
        description="fraction of the pixels that are hidden, and count, in each sample: one in "
        "each box of a grid. The default is that of the paper, 64 of 64 x 64 pixels",
    )
    radius: int = Field(
        2,
        ge=1,
        le=20,
        description="radius of the window from which a hidden pixel's new value is taken; 2 means "
        "5 x 5",
    )
    replacement: Literal["uniform", "median"] = Field(
        "uniform",
        description="the new value: that of a random pixel of the window, or the median of the "
        "window (N2V2), which leaves fewer checkerboards",
    )
    mask: BlindMask = Field(
        {},
        description="pixels that are also hidden, before and after each of these along an axis: "
        "{X: 5} against noise that is correlated along rows (structN2V); Z, Y or X",
    )


class ImagePairs(Section):
    """Images to train on, and what the network should turn them into."""

    model_config = ConfigDict(
        json_schema_extra=either(
            [given("splits"), absent("input", "target")],
            [given("input", "target"), absent("splits", "blind_spot")],
            [given("input", "blind_spot"), absent("splits", "target")],
        )
    )

    splits: Splits | None = Field(
        None,
        description="Noise2Inverse, instead of input and target: two or more specifiers of images "
        "of the same objects with independent noise, such as reconstructions from every fourth "
        "projection angle",
    )
    strategy: Literal["X:1", "1:X"] = Field(
        "X:1",
        description="which of the `splits` are input and target: the mean of all but one and the "
        "remaining one, or one and the mean of the others",
    )
    blind_spot: BlindSpotConfig | None = Field(
        None,
        description="Noise2Void, instead of target: learn to denoise from single noisy images; "
        "`{}` is as in the paper",
    )
    input: Specifier | None = Field(
        None,
        validate_default=True,
        description="input images, required without `splits`: a glob, folder, file, or list of "
        "these; `@list.txt` for the lines of a text file, `scan.h5::/data` for a dataset in a "
        "file; or a mapping `{path: ..., axes: ZCYX}`, for raw files also with `shape: [100, 512, "
        "512]` and `dtype: uint16`. `axes` has a letter per axis: X, Y, Z space, C channels, T "
        "counts images. Default: the names in the file; unnamed axes are filled from the last "
        "backwards in the order X, Y, Z, C, so that three axes are ZYX",
    )
    target: Specifier | None = Field(
        None,
        validate_default=True,
        description="target images, paired with the inputs in natural order of their paths; "
        "required without `splits` or `blind_spot`",
    )
    mask: Specifier | None = Field(
        None, description="mask images, one per pair: only nonzero pixels count"
    )
    swap: bool = Field(
        False,
        description="Noise2Noise: inputs and targets are noisy repeats of the same images, and "
        "each also serves as the other, so that an epoch shows every pair in both directions",
    )

    @field_validator("input", "target", mode="before")
    @classmethod
    def _needed_without_splits(cls, value: Any, info: ValidationInfo) -> Any:
        # Invalid splits are not in info.data, and are reported as an error of their own.
        others = ("splits",) if info.field_name == "input" else ("splits", "blind_spot")
        if value is None and all(info.data.get(key, ...) is None for key in others):
            raise PydanticCustomError("missing", "missing")
        return value


class ValidationData(Section):
    """Images to validate on: a separate set, or a part of the training set."""

    model_config = ConfigDict(
        json_schema_extra=either(
            [given("input", "target"), absent("splits", "fraction", "slices")],
            [given("splits"), absent("input", "target", "fraction", "slices")],
            [given("fraction"), absent("input", "target", "mask", "splits", "slices")],
            [given("slices"), absent("input", "target", "mask", "splits", "fraction")],
        )
    )

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
        description="instead of the above: hold out this fraction of the training images, picked "
        "at random with `training.seed`. Neighbouring slices of a volume look alike: for volumes "
        "hold out `slices`",
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
        description="pixels shared by neighbouring windows of `patch`; each counts in one of "
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
            raise ValueError("held-out images use the mask of data.train; remove mask")
        return self

    def patch_size(self, ndim: int) -> tuple[int, ...] | None:
        """Size of a patch per spatial axis, or None for whole images."""
        return per_axis(self.patch, ndim)

    def patch_overlap(self, ndim: int) -> int:
        """Pixels shared by neighbouring patches; 0 for whole images."""
        size = self.patch_size(ndim)
        if size is None:
            return 0
        return min(size) // 4 if self.overlap is None else self.overlap


def per_axis(size: int | list[int] | None, ndim: int) -> tuple[int, ...] | None:
    """A size per spatial axis, of one number for all axes or one number for each."""
    if size is None:
        return None
    return (size,) * ndim if isinstance(size, int) else tuple(size)
