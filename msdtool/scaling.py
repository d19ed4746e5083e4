"""How the values of images become those that a network computes with, as plain data."""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

from msdtool.plain_data import read, shown

Method = Literal["mean_std", "percentile", "range", "none"]
Per = Literal["dataset", "image"]
Target = Literal["input", "dataset"]


@dataclass(frozen=True)
class Scaling:
    """What an experiment's config says about it, and a model has to repeat.

    Attributes:
        method: "mean_std", values get mean 0 and standard deviation 1; "percentile", two
            percentiles become 0 and 1; "range", two given values do; "none", nothing changes.
        per: "dataset", levels are those of the training set, which the network's own layers
            hold; "image", each image has its own.
        percentiles: the two of "percentile".
        range: the two values of "range", of inputs.
        target_range: the same of targets; empty: those of inputs.
        target: of a regression with levels per image: targets have those of their "input", by
            which outputs are scaled back; or of the "dataset", their mean and standard deviation.
    """

    method: Method = "mean_std"
    per: Per = "dataset"
    percentiles: tuple[float, ...] = ()
    range: tuple[float, ...] = ()
    target_range: tuple[float, ...] = ()
    target: Target = "input"

    @property
    def is_per_image(self) -> bool:
        """Whether each image has levels of its own."""
        return self.per == "image"

    def __str__(self) -> str:
        """In words."""
        match self.method:
            case "none":
                return "none"
            case "range":
                return f"{_levels(self.range)} become 0 and 1"
            case "percentile":
                what = f"the percentiles {_levels(self.percentiles)} become 0 and 1"
            case _:
                what = "mean 0 and standard deviation 1"
        return f"{what}, {'of each image' if self.is_per_image else 'of the training set'}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; what has its default is left out."""
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        usual = Scaling()
        return {
            key: value for key, value in plain.items() if getattr(self, key) != vars(usual)[key]
        }

    @classmethod
    def from_dict(cls, content: Any, name: str = "scaling") -> "Scaling":
        """Read what `to_dict` returned.

        Args:
            content: keys and values.
            name: where they are, for error messages.

        Raises:
            ValueError: a key is unknown, or its value cannot be; names the key.
        """
        found = read(cls, content, name)
        unknown = content.keys() - vars(found).keys()
        if unknown:
            raise ValueError(f"{name}.{min(map(str, unknown))} is unknown; update msdtool")
        if found.is_per_image and found.method not in ("mean_std", "percentile"):
            raise ValueError(f"{name}.per is image; {found.method} is the same for all images")
        for key, user in (("percentiles", "percentile"), ("range", "range")):
            found._check_pair(key, name, is_used=found.method == user)
        if found.target_range:
            found._check_pair("target_range", name, is_used=found.method == "range")
        if found.percentiles and not 0 <= found.percentiles[0] < found.percentiles[1] <= 100:
            raise ValueError(f"{name}.percentiles is {shown(found.percentiles)}; expected 0 to 100")
        return found

    def _check_pair(self, key: str, name: str, *, is_used: bool) -> None:
        values = getattr(self, key)
        rises = all(a < b for a, b in pairwise(values)) and all(abs(v) < 1e300 for v in values)
        if len(values) != (2 if is_used else 0) or not rises:
            expected = "two rising numbers" if is_used else f"none, of the method {self.method}"
            raise ValueError(f"{name}.{key} is {shown(list(values))}; expected {expected}")


def _levels(values: tuple[float, ...]) -> str:
    return " and ".join(f"{value:g}" for value in values)
