"""The `data` section of an experiment: where images come from and how samples are made of them."""

from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from msdtool.config import value_schemas
from msdtool.config.image_schema import Crop, ImagePairs, ValidationData, per_axis
from msdtool.config.normalisation_schema import NormalisationConfig
from msdtool.config.section import Section
from msdtool.config.values import (
    parse_angles,
    parse_augment,
    parse_factors,
    parse_fractions,
    parse_label,
    parse_labels,
    parse_range,
    parse_strengths,
)

Labels = Annotated[
    int | list[int], BeforeValidator(parse_labels), WithJsonSchema(value_schemas.LABELS)
]
Label = Annotated[int, BeforeValidator(parse_label), WithJsonSchema(value_schemas.LABEL)]
Augment = Annotated[
    bool | str, BeforeValidator(parse_augment), WithJsonSchema(value_schemas.AUGMENT)
]
Range = Annotated[list[float], BeforeValidator(parse_range), WithJsonSchema(value_schemas.RANGE)]
Factors = Annotated[
    list[float], BeforeValidator(parse_factors), WithJsonSchema(value_schemas.FACTORS)
]
Angles = Annotated[list[float], BeforeValidator(parse_angles), WithJsonSchema(value_schemas.ANGLES)]
Fractions = Annotated[
    list[float], BeforeValidator(parse_fractions), WithJsonSchema(value_schemas.FRACTIONS)
]
Strengths = Annotated[
    list[float], BeforeValidator(parse_strengths), WithJsonSchema(value_schemas.STRENGTHS)
]


class ForegroundConfig(Section):
    """Crops that contain something of interest."""

    fraction: float = Field(
        gt=0, le=1, description="fraction of the crops that contain a foreground pixel, 0 to 1"
    )
    labels: list[Label] | None = Field(
        None,
        min_length=1,
        description="segmentation: the labels that are foreground, each drawn equally often. "
        "Null: all but the first of `data.labels`",
    )
    above: float | None = Field(
        None,
        description="regression: target values above this one are foreground. Null: where "
        "`data.train.mask` is not 0",
    )


class GeometryConfig(Section):
    """Ranges from which the deformation of each sample is drawn."""

    rotation: Angles | None = Field(
        None,
        description="angle in degrees, such as [-15, 15]; of volumes about a random axis. Inputs "
        "and targets are interpolated linearly, labels taken from the nearest pixel. What comes "
        "from outside the image is reflected in the input and does not count",
    )
    scale: Factors | None = Field(
        None, description="factor on the size of what is shown, such as [0.8, 1.25]"
    )
    elastic: Strengths | None = Field(
        None,
        description="elastic deformation (Simard et al., 2003): standard deviation of a smooth "
        "random displacement, in pixels, such as [0, 3]; at most half of `elastic_sigma`",
    )
    elastic_sigma: float = Field(
        8.0,
        gt=0,
        le=1000,
        description="how smooth the displacement is: standard deviation, in pixels, of the "
        "Gaussian that white noise is convolved with",
    )
    in_plane: bool = Field(
        False, description="of volumes: deform all slices alike, within themselves"
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
        description="exponent on the values scaled to 0 to 1 between the sample's minimum and "
        "maximum, such as [0.8, 1.25]",
    )
    gain: Factors | None = Field(None, description="factor, such as [0.9, 1.1]")
    offset: Range | None = Field(
        None,
        description="added, in standard deviations of the training inputs, such as [-0.1, 0.1]",
    )
    poisson_noise: Strengths | None = Field(
        None,
        description="counting noise: the value q of one counted event, in the data's own unit; a "
        "value v gets the variance q v. Values below 0 are left unchanged",
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
        None, description="segmentation: target pixels with this value do not count"
    )
    normalisation: NormalisationConfig = Field(
        default_factory=NormalisationConfig, description="how images are scaled for the network"
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
        1, ge=1, le=100_000, description="crops of each training image, or volume, in an epoch"
    )
    foreground: ForegroundConfig | None = Field(
        None, description="make crops contain something of interest more often"
    )
    fraction: float | None = Field(
        None,
        gt=0,
        le=1,
        description="train on this fraction of the training images that are left after holding out "
        "images for validation; picked at random with `training.seed`, smaller fractions are "
        "subsets of larger ones",
    )
    slab: int = Field(
        0,
        ge=0,
        le=100,
        description="2.5D: this many slices above and below each slice become channels of the "
        "input; the slices of a volume are in one file or one folder. Reflected at its ends",
    )
    augment: Augment = Field(
        False,
        description="rotate and flip each training sample at random: 8 symmetries of images, 16 of "
        "slabs, 48 of volumes; `in_plane`: the 16 that map slices to slices. Symmetries that "
        "change the shape are left out if a batch needs one shape",
    )
    geometry: GeometryConfig | None = Field(
        None, description="rotate, scale and deform each training sample at random"
    )
    intensity: IntensityConfig | None = Field(
        None, description="change the values of each training input at random"
    )
    cut_out: Fractions | None = Field(
        None,
        description="hide a box at a random place of each training input: range of its size, as a "
        "fraction of the sample's, such as [0, 0.25]. The input's mean is put there, and what is "
        "hidden does not count",
    )
    workers: int = Field(
        0, ge=0, le=1024, description="number of loader processes; 0 uses a prefetch thread"
    )
    cache: bool = Field(False, description="keep all decoded images in memory")
    data_range: float | None = Field(
        None,
        gt=0,
        description="regression: value range that PSNR and SSIM refer to. Null: maximum minus "
        "minimum of the training targets",
    )

    @property
    def label_values(self) -> list[int]:
        """Label values in the target images, in the order of the network's output channels."""
        if self.labels is None:
            return []
        return list(range(self.labels)) if isinstance(self.labels, int) else self.labels

    @property
    def validates_on_noise(self) -> bool:
        """Whether the targets of validation are noisy: those of self-supervision, held out."""
        train, validation = self.train, self.validation
        learns_from_noise = train.splits is not None or train.swap or train.blind_spot is not None
        return learns_from_noise and validation is not None and validation.target is None

    @property
    def noise_scores(self) -> list[str]:
        """Scores of validation on noisy targets, of whole images in which all pixels count."""
        train, validation = self.train, self.validation
        if validation is None or not self.validates_on_noise:
            return []
        mask = train.mask if validation.splits is None else validation.mask
        if mask is not None or validation.patch is not None:
            return []
        # A target is a half of the data that the network can be applied to; not one without the
        # slices above and below it, or in another scale.
        scaling = self.normalisation.to_scaling()
        is_alike = not scaling.is_per_image or scaling.target == "input"
        has_halves = train.blind_spot is None and not self.slab and is_alike
        return ["frc", "edges"] if has_halves else ["edges"]

    def crop_size(self, ndim: int) -> tuple[int, ...] | None:
        """Crop size per spatial axis, or None for whole images."""
        return per_axis(self.crop, ndim)
