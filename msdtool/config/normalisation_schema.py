"""The section `data.normalisation`: how the values of images are scaled for the network."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator, Field

from msdtool.config.section import Problem, Section
from msdtool.config.values import parse_percentiles, parse_rising
from msdtool.scaling import Method, Per, Scaling, Target

Percentiles = Annotated[list[float], BeforeValidator(parse_percentiles)]
Rising = Annotated[list[float], BeforeValidator(parse_rising)]

KEY = "data.normalisation"


class NormalisationConfig(Section):
    """How the values of images are scaled for the network, and its outputs scaled back."""

    method: Method = Field(
        "mean_std",
        description="what the network sees: `mean_std`, values of mean 0 and standard deviation 1; "
        "`percentile`, two percentiles become 0 and 1, which a few hot pixels do not change; "
        "`range`, two given values do; `none`, the values of the files. When to use which: "
        "[normalisation](training.md#normalisation)",
    )
    per: Per = Field(
        "dataset",
        description="statistics of the whole training set, or of each image (volume, if "
        "`network.ndim` is 3): for images whose brightness and contrast have no meaning",
    )
    percentiles: Percentiles = Field([1.0, 99.0], description="the two of `percentile`")
    range: Rising | None = Field(
        None, description="the two values of `range`, such as [0, 65535]; others lie outside 0 to 1"
    )
    target_range: Rising | None = Field(
        None, description="the same for the targets of a regression; null: `range`"
    )
    target: Target = Field(
        "input",
        description="regression with `per: image`: targets are scaled like their input, and "
        "outputs back by the same statistics, where both show the same quantity (denoising); or by "
        "mean and standard deviation of all training targets, where they do not",
    )

    def to_scaling(self) -> Scaling:
        """Return what a model repeats of it."""
        return Scaling(
            self.method,
            self.per,
            tuple(self.percentiles) if self.method == "percentile" else (),
            tuple(self.range or ()),
            tuple(self.target_range or ()),
            self.target,
        )

    def problems(self, task: str) -> Iterator[Problem]:
        """Yield keys that do not fit each other, or the task."""
        if (self.method == "range") != (self.range is not None):
            missing = self.range is None
            yield (
                f"{KEY}.range",
                "missing: the two values that become 0 and 1, such as [0, 65535]"
                if missing
                else "only method: range uses it; remove it",
            )
        if self.target_range is not None and (self.method != "range" or task != "regression"):
            yield f"{KEY}.target_range", "only method: range of a regression uses it; remove it"
        usual = type(self).model_fields["percentiles"].default
        if self.method != "percentile" and self.percentiles != usual:
            yield f"{KEY}.percentiles", "only method: percentile uses it; remove it"
        if self.per == "image" and self.method not in ("mean_std", "percentile"):
            yield f"{KEY}.per", f"method: {self.method} is the same for all images; remove it"
        if self.target != "input" and (self.per != "image" or task != "regression"):
            yield f"{KEY}.target", "only per: image of a regression uses it; remove it"
