"""Values to the pixels of results: their type, and the range that integers stand for."""

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from msdtool.data.containers import Array
from msdtool.data.metadata import Packing
from msdtool.data.sinks.png import refusal
from msdtool.errors import ConfigError, Error

log = logging.getLogger(__name__)

DTYPES = ("float32", "float16", "uint16", "uint8", "input")
"""The types of results that can be chosen; "input": that of the input."""
SCALE = re.compile(r"^\s*(?P<low>[^:]+):(?P<high>[^:]+)$")


@dataclass(frozen=True)
class Encoding:
    """How values become the pixels of a result.

    Attributes:
        dtype: of the pixels, one of `DTYPES`; None: float32, or the smallest that holds all labels.
        scale: the values for which the smallest and largest integer stand; None: values are
            rounded as they are.
    """

    dtype: str | None = None
    scale: tuple[float, float] | None = None

    @classmethod
    def parse(cls, dtype: str | None, scale: str | None) -> "Encoding":
        """Return the encoding that a user asks for.

        Args:
            dtype: see `Encoding`.
            scale: "LOW:HIGH", or None.

        Raises:
            ConfigError: there is no such encoding.
        """
        if dtype not in (None, *DTYPES):
            raise ConfigError(
                f"dtype: got {dtype!r}; allowed: {', '.join(DTYPES)}", hint_key="dtype"
            )
        if scale is None:
            return cls(dtype)
        if dtype in (None, "float32", "float16"):
            raise ConfigError(
                f"scale: {scale}: only integers need a range; choose the dtype uint16 or uint8 too",
                hint_key="dtype",
            )
        return cls(dtype, _range(scale))

    def check(self, labels: Sequence[int]) -> None:
        """Raise ConfigError if labels cannot be written so.

        Args:
            labels: all label values; empty for a regression.
        """
        if not labels:
            return
        if self.scale is not None:
            raise ConfigError("scale: the results are labels, which are written as they are")
        if self.dtype in ("uint8", "uint16"):
            smallest, largest = _limits(np.dtype(self.dtype))
            wrong = [label for label in labels if not smallest <= label <= largest]
            if wrong:
                raise ConfigError(f"dtype: {self.dtype} cannot represent the label {wrong[0]}")
        elif self.dtype is not None:
            raise ConfigError(
                f"dtype: {self.dtype}: the results are labels; choose uint8 or uint16, or none for "
                "the smallest that holds all"
            )

    def dtype_for(self, input: np.dtype[Any], default: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of a result.

        Args:
            input: dtype of the input.
            default: where none was chosen.

        Raises:
            ConfigError: the input's dtype cannot be that of a result.
        """
        if self.dtype is None:
            return default
        if self.dtype != "input":
            return np.dtype(self.dtype)
        if input.kind not in "iuf":
            raise ConfigError(
                f"dtype: input: the input has the type {input}; choose another dtype",
                hint_key="dtype",
            )
        return input.newbyteorder("=")

    def pixels(self, channels: int, ndim: int, default: np.dtype[Any]) -> "Pixels":
        """Return what results hold; see `Pixels`, and `dtype_for` for ``default``."""
        if self.dtype == "input":
            return Pixels(channels, ndim, None)
        return Pixels(channels, ndim, default if self.dtype is None else np.dtype(self.dtype))

    def packing(self, dtype: np.dtype[Any]) -> Packing | None:
        """Return what integers of a dtype stand for; None: for themselves.

        Raises:
            ConfigError: a range is given, and the dtype is not an integer.
        """
        if self.scale is None:
            return None
        if dtype.kind not in "iu":
            raise ConfigError(
                f"scale: the results have the type {dtype}, and only integers need a range; choose "
                "the dtype uint16 or uint8",
                hint_key="dtype",
            )
        low, high = self.scale
        smallest, largest = _limits(dtype)
        slope = (high - low) / (largest - smallest)
        return Packing(slope, low - slope * smallest)


def _range(text: str) -> tuple[float, float]:
    found = SCALE.match(text)
    try:
        low, high = (float(found[name]) for name in ("low", "high")) if found else (0.0, 0.0)
    except ValueError:
        low = high = 0.0
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(
            f"scale: got {text!r}; expected LOW:HIGH, two numbers such as 0:1.5", hint_key="scale"
        )
    return low, high


def _limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)


@dataclass(frozen=True)
class Pixels:
    """What results hold, as far as it is known before any file is opened.

    Attributes:
        channels: of an image.
        ndim: number of its spatial axes.
        dtype: of its pixels; None: that of each input.
    """

    channels: int
    ndim: int
    dtype: np.dtype[Any] | None

    def png_refusal(self) -> str | None:
        """Say why results cannot be PNGs; see `msdtool.data.sinks.png.refusal`."""
        dtype = np.dtype(np.uint8) if self.dtype is None else self.dtype
        return refusal((self.channels, *[1] * self.ndim), dtype)


class Encoder:
    """Turns the values of one result into its pixels, and counts those that do not fit.

    Args:
        dtype: of the pixels.
        packing: what integers stand for, see `Encoding.packing`.
        name: what messages call the result.
    """

    def __init__(self, dtype: np.dtype[Any], packing: Packing | None, name: str) -> None:
        self.dtype, self.name = dtype, name
        self.packing = packing or Packing(1.0, 0.0)
        self.clipped = 0

    def __call__(self, values: Array) -> Array:
        """Return the pixels of float32 values; integers are rounded, ties to even, and clipped.

        Raises:
            Error: a value is not finite and the pixels are integers.
        """
        if values.dtype == self.dtype:
            return values
        if self.dtype.kind == "f":
            limit = float(np.finfo(self.dtype).max)
            self.clipped += int((np.abs(values) > limit).sum())
            return values.clip(-limit, limit).astype(self.dtype)
        if not np.isfinite(values).all():
            raise Error(
                f"{self.name}: the network's output has values that are not finite, which "
                f"{self.dtype} cannot represent; choose the dtype float32"
            )
        smallest, largest = _limits(self.dtype)
        exact = np.rint((values.astype(np.float64) - self.packing.offset) / self.packing.slope)
        self.clipped += int(((exact < smallest) | (exact > largest)).sum())
        return exact.clip(smallest, largest).astype(self.dtype)

    def report(self) -> None:
        """Warn of values that did not fit."""
        if self.clipped:
            log.warning(
                f"{self.name}: {self.clipped} values are outside of what {self.dtype} holds and "
                "were written as its smallest or largest; choose another scale or dtype"
            )
