"""Values that YAML has no type for: each parser returns the value or raises ValueError."""

import itertools
import math
import re
from typing import Any

from msdtool.plain_data import MAX_LABEL_VALUE

MAX_LABELS = 4096
"""A network, and its confusion matrix, need memory for the square of their number."""
DTYPE = r"u?int(8|16|32|64)|float(16|32|64)|[<>]?([iu][1248]|f[248])"
MAX_MASK = 50
FROZEN_PARTS = ("stem", "head", "block")
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def parse_specifier(value: Any) -> Any:
    """A path with optional glob pattern, or a list of these."""
    items = value if isinstance(value, list) else [value]
    if not items or not all(isinstance(item, str) and item for item in items):
        raise ValueError("expected a path, a glob pattern, or a list of these")
    return value


def parse_path(value: Any) -> Any:
    """A path, which may contain bytes that are not UTF-8."""
    if not isinstance(value, str) or not value:
        raise ValueError("expected a non-empty string")
    return value


def parse_digest(value: Any) -> Any:
    """A SHA-256 sum, as ``sha256sum`` prints it."""
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
        return value
    raise ValueError("expected 64 hexadecimal digits, as sha256sum prints them")


def parse_freeze(value: Any) -> Any:
    """Parts of a network, each once: stem, head, block, or {block: number of layers}."""
    if not isinstance(value, list):
        raise ValueError("expected a list such as [stem, {block: 20}]")
    names = []
    for item in value:
        name, count = next(iter(item.items())) if isinstance(item, dict) and item else (item, 1)
        is_part = isinstance(name, str) and name in FROZEN_PARTS
        is_counted = isinstance(item, dict)
        if not is_part or (is_counted and (len(item) > 1 or name != "block")):
            raise ValueError(f"expected some of stem, head, block, {{block: 20}}; found {item!r}")
        if not _is_int(count) or count < 1:
            raise ValueError(f"expected a number of layers of 1 or more; found {item!r}")
        names.append(name)
    if len(set(names)) != len(names):
        raise ValueError("expected each part once")
    return value


def parse_splits(value: Any) -> Any:
    """Specifiers of several stacks of images."""
    if not isinstance(value, list) or len(value) < 2:
        raise ValueError("expected a list of two or more specifiers, one for each split")
    return value


def parse_axes(value: Any) -> Any:
    """A letter per axis of an array."""
    letters = value.upper() if isinstance(value, str) else ""
    known = set(letters) <= set("XYZCT") and len(set(letters)) == len(letters)
    if not known or not {"X", "Y"} <= set(letters):
        raise ValueError(
            "expected a letter per axis, each once: X, Y, Z, C (channels), T (counts images), "
            "such as ZYX or YXC"
        )
    return letters


def parse_blind_mask(value: Any) -> Any:
    """A number of pixels for some of the axes Z, Y and X."""
    are_pixels = isinstance(value, dict) and all(
        axis in ("Z", "Y", "X") and _is_int(length) and 1 <= length <= MAX_MASK
        for axis, length in value.items()
    )
    if not are_pixels:
        raise ValueError(f"expected 1 to {MAX_MASK} pixels for some of Z, Y, X, such as {{X: 5}}")
    return value


def parse_dtype(value: Any) -> Any:
    """The name of a numeric dtype."""
    if isinstance(value, str) and re.fullmatch(DTYPE, value):
        return value
    raise ValueError("expected a dtype such as uint16, float32, or >u2 (big-endian)")


def parse_labels(value: Any) -> Any:
    """A number of labels, or the list of label values."""
    if _is_int(value):
        if not 2 <= value <= MAX_LABELS:
            raise ValueError(f"expected 2 to {MAX_LABELS} labels")
        return value
    if not isinstance(value, list) or not all(map(_is_int, value)):
        raise ValueError("expected the number of labels, or a list of integers")
    if len(set(value)) != len(value):
        raise ValueError("expected distinct label values")
    if not 2 <= len(value) <= MAX_LABELS:
        raise ValueError(f"expected 2 to {MAX_LABELS} labels")
    return [parse_label(item) for item in value]


def parse_label(value: Any) -> Any:
    """A label value."""
    if not _is_int(value) or abs(value) > MAX_LABEL_VALUE:
        raise ValueError(f"expected integers of magnitude at most {MAX_LABEL_VALUE}")
    return value


def parse_crop(value: Any) -> Any:
    """A size in pixels for all spatial axes, or one per axis."""
    sizes = value if isinstance(value, list) else [value]
    if not all(_is_int(size) and size > 0 for size in sizes) or len(sizes) not in (1, 2, 3):
        raise ValueError("expected a positive integer, or a list with one per spatial axis")
    return value


def parse_augment(value: Any) -> Any:
    """Whether, and in which planes, samples are rotated and flipped."""
    if not isinstance(value, bool) and value != "in_plane":
        raise ValueError("expected true, false or in_plane")
    return value


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def parse_range(value: Any) -> Any:
    """A minimum and a maximum."""
    is_pair = isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))
    if not is_pair or value[0] > value[1]:
        raise ValueError("expected the minimum and the maximum, such as [-0.1, 0.1]")
    return [float(item) for item in value]


def parse_rising(value: Any) -> Any:
    """Two numbers of which the second is larger."""
    bounds = parse_range(value)
    if bounds[0] >= bounds[1]:
        raise ValueError("expected a smaller and a larger number, such as [0, 65535]")
    return bounds


def parse_percentiles(value: Any) -> Any:
    """Two percentiles of which the second is larger."""
    bounds = parse_rising(value)
    if bounds[0] < 0 or bounds[1] > 100:
        raise ValueError("expected two numbers from 0 to 100, such as [1, 99]")
    return bounds


def parse_factors(value: Any) -> Any:
    """A range of factors or exponents."""
    bounds = parse_range(value)
    if bounds[0] <= 0:
        raise ValueError("expected a range above 0, such as [0.8, 1.25]")
    return bounds


def parse_strengths(value: Any) -> Any:
    """A range of strengths, which may start at 0."""
    bounds = parse_range(value)
    if bounds[0] < 0:
        raise ValueError("expected a range not below 0, such as [0, 0.2]")
    return bounds


def parse_fractions(value: Any) -> Any:
    """A range of fractions of a size, below all of it."""
    bounds = parse_range(value)
    if not 0 <= bounds[0] <= bounds[1] < 1:
        raise ValueError("expected a range from 0 to below 1, such as [0, 0.25]")
    return bounds


def parse_angles(value: Any) -> Any:
    """A range of angles in degrees."""
    bounds = parse_range(value)
    if not -180 <= bounds[0] <= bounds[1] <= 180:
        raise ValueError("expected a range within -180 to 180 degrees, such as [-15, 15]")
    return bounds


def parse_slices(value: Any) -> Any:
    """A range of slices, or a list of ranges that do not overlap, sorted."""
    ranges = value if isinstance(value, list) and value and isinstance(value[0], list) else [value]
    if not all(
        isinstance(item, list)
        and len(item) == 2
        and all(map(_is_int, item))
        and 0 <= item[0] < item[1]
        for item in ranges
    ):
        raise ValueError(
            "expected the first slice and the one after the last, such as [200, 256], or a list "
            "of such ranges"
        )
    ranges = sorted(ranges)
    if any(first[1] > second[0] for first, second in itertools.pairwise(ranges)):
        raise ValueError("expected ranges that do not overlap")
    return ranges


def parse_class_weights(value: Any) -> Any:
    """The word "balanced", or one number per label."""
    if value == "balanced":
        return value
    if not isinstance(value, list) or not all(
        isinstance(item, (int, float)) and not isinstance(item, bool) and 0 < item < math.inf
        for item in value
    ):
        raise ValueError('expected "balanced" or a list of positive numbers')
    return [float(item) for item in value]


def parse_duration(value: Any) -> Any:
    """Seconds, from a number of seconds or a string such as "90m", "11.5h", "11:30:00"."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value)
    if isinstance(value, str):
        if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", value):
            seconds = float(match[1]) * UNITS[match[2]]
        elif match := re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", value):
            days, hours, minutes, rest = (int(part or 0) for part in match.groups())
            seconds = days * 86400.0 + hours * 3600.0 + minutes * 60.0 + rest
        else:
            seconds = 0.0
        if seconds > 0:
            return seconds
    raise ValueError("expected a time such as 30s, 90m, 11.5h, 2d or 11:30:00")


def parse_loss_terms(value: Any) -> Any:
    """A list of losses with their weights; a name alone has weight 1."""
    terms: dict[str, float] = {}
    for item in value:
        entry = {item: 1.0} if isinstance(item, str) else item
        if not isinstance(entry, dict) or len(entry) != 1:
            raise ValueError(f"expected losses such as [L2, {{Gram: 0.1}}]; found {item!r}")
        name, weight = next(iter(entry.items()))
        if name in terms:
            raise ValueError(f"expected each loss once; {name} appears twice")
        is_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not is_number or not 0 < weight < math.inf:
            raise ValueError(f"expected positive weights; the weight of {name} is {weight!r}")
        terms[name] = float(weight)
    if not terms:
        raise ValueError("expected at least one loss")
    return [{name: weight} for name, weight in terms.items()]


def parse_layer(value: Any) -> Any:
    """A layer's name, or {name: {argument: value}}; without arguments it becomes its name."""
    if isinstance(value, str) and value:
        return value
    if isinstance(value, dict) and len(value) == 1:
        name, arguments = next(iter(value.items()))
        if arguments is None or arguments == {}:
            return name
        if isinstance(arguments, dict):
            return value
    hint = "; are the arguments indented?" if isinstance(value, dict) and len(value) > 1 else ""
    raise ValueError(
        "expected a layer's name, or a name and its arguments such as {ConvLayer: {nf: 8}}" + hint
    )


def parse_layers(value: Any) -> Any:
    """A list of layers; see `parse_layer`."""
    if not isinstance(value, list):
        raise ValueError("expected a list of layers, such as [ReLU, {ConvLayer: {nf: 8}}]")
    layers = []
    for number, item in enumerate(value, 1):
        try:
            layers.append(parse_layer(item))
        except ValueError as error:
            raise ValueError(f"{error}; entry {number} is {item!r}") from None
    return layers
