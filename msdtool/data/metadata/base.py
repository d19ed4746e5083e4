"""What a file says about its array besides the pixels, whatever its format."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

METRES = {
    "m": 1.0,
    "km": 1e3,
    "cm": 1e-2,
    "mm": 1e-3,
    "µm": 1e-6,
    "nm": 1e-9,
    "pm": 1e-12,
    "Å": 1e-10,
    "inch": 0.0254,
}
"""The lengths that units stand for."""
SPELLINGS = {
    "\u03bcm": "µm",  # the Greek letter instead of the sign
    "um": "µm",
    "micron": "µm",
    "microns": "µm",
    "micrometer": "µm",
    "micrometre": "µm",
    "nanometer": "nm",
    "nanometre": "nm",
    "millimeter": "mm",
    "millimetre": "mm",
    "centimeter": "cm",
    "centimetre": "cm",
    "meter": "m",
    "metre": "m",
    "angstrom": "Å",
    "a": "Å",
    "in": "inch",
    "sec": "s",
    "second": "s",
    "seconds": "s",
    "millisecond": "ms",
    "minute": "min",
    "hour": "h",
}
LARGEST = 1e50
"""No distance is larger in any unit, and none smaller than its inverse: others are damage."""
LONGEST_UNIT = 60
ABOUT_VALUES = ("units", "long_name", "standard_name", "unit", "scale_factor", "add_offset")
"""Attributes about values, which hold for labels and probabilities no more."""


class Step(NamedTuple):
    """How pixels follow one another along an axis.

    Attributes:
        size: from the centre of a pixel to that of the next.
        unit: of ``size`` and ``start``, as in `METRES` where it is a length; "": unknown.
        start: where the centre of the first pixel is.
    """

    size: float
    unit: str = ""
    start: float = 0.0

    @property
    def metres(self) -> float | None:
        """The size in metres, if the unit is a length."""
        return self.size * METRES[self.unit] if self.unit in METRES else None


class Tag(NamedTuple):
    """A tag of a TIFF that is handed on as it is."""

    code: int
    type: int
    length: int
    value: Any


class Provenance(NamedTuple):
    """How a result came about.

    Attributes:
        program: its name and version.
        model: a hash of the network and its use.
        command: the command line, with MODEL for the network and no folders.
    """

    program: str
    model: str
    command: str


class Packing(NamedTuple):
    """How values lie in integers: value = slope * integer + offset."""

    slope: float
    offset: float


@dataclass(frozen=True)
class Metadata:
    """What a file says about its array besides the pixels.

    Attributes:
        convention: in which it says so: "ome", "imagej" or "" for that of the format itself.
        steps: distance and position of pixels by the letter of the axis.
        channels: names of the channels.
        tags: geographic tags of a TIFF.
        attributes: other attributes of the array by name: numbers, text and lists of these.
        affine: 4 x 4, the place in space of the voxel at (x, y, z), as NIfTI has it.
    """

    convention: str = ""
    steps: Mapping[str, Step] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    tags: tuple[Tag, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    affine: tuple[tuple[float, ...], ...] | None = None

    def cut(self, starts: Mapping[str, int]) -> "Metadata":
        """Return what holds for a part of the array.

        Args:
            starts: the part's first pixel, by the letter of the axis; 0 where it is not given.
        """
        x, y, z = (starts.get(letter, 0) for letter in "XYZ")
        return replace(
            self,
            steps={
                letter: step._replace(start=step.start + starts.get(letter, 0) * step.size)
                for letter, step in self.steps.items()
            },
            tags=tuple(_cut_tag(tag, x, y) for tag in self.tags),
            affine=self.affine and _cut_affine(self.affine, (x, y, z)),
        )

    def of_result(
        self, axes: str, channels: int, *, scale: int = 1, are_values: bool = True
    ) -> "Metadata":
        """Return what still holds for a result.

        Args:
            axes: the letters of the result's axes.
            channels: number of the result's channels.
            scale: how many times finer its pixels are along each spatial axis.
            are_values: its pixels are values like the input's, not labels or probabilities.
        """
        names = self.channels if len(self.channels) == channels and are_values else ()
        attributes = {
            name: value
            for name, value in self.attributes.items()
            if are_values or name not in ABOUT_VALUES
        }
        return replace(
            self,
            steps={
                letter: _finer(step, scale) if letter in "XYZ" else step
                for letter, step in self.steps.items()
                if letter in axes
            },
            channels=names,
            tags=tuple(_finer_tag(tag, scale) for tag in self.tags),
            attributes=attributes,
            affine=self.affine and _finer_affine(self.affine, scale),
        )


@dataclass(frozen=True)
class Description:
    """What a result says about itself besides the pixels.

    Attributes:
        metadata: of the input, as far as it still holds.
        provenance: how the result came about, if that is known.
        packing: how its values are stored, unless as they are.
    """

    metadata: Metadata = field(default_factory=Metadata)
    provenance: Provenance | None = None
    packing: Packing | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """Provenance and packing, for files that have no other place for them."""
        provenance = {} if self.provenance is None else self.provenance._asdict()
        return provenance | ({} if self.packing is None else self.packing._asdict())


def known_unit(name: str) -> str:
    """Return the one spelling by which a unit is known here; others stay as they are."""
    name = name.strip()
    return SPELLINGS.get(name.lower(), name)


def step_of(size: Any, unit: Any = "", start: Any = 0.0) -> Step | None:
    """Return a step, or None if a file's numbers are not one."""
    try:
        name = known_unit(str(unit or ""))
        step = Step(float(size), name if len(name) <= LONGEST_UNIT else "", float(start))
    except (OverflowError, TypeError, ValueError):
        return None
    is_possible = 1 / LARGEST <= step.size <= LARGEST and abs(step.start) <= LARGEST
    return step if is_possible else None


def steps_of(content: Any) -> dict[str, Step]:
    """Return the steps that a result records as lists by letter, where no convention names them."""
    found = {}
    for letter, values in content.items() if isinstance(content, dict) else ():
        if isinstance(values, list) and len(values) == len(Step._fields):
            step = step_of(*values)
            if step is not None:
                found[letter] = step
    return found


def _finer(step: Step, scale: int) -> Step:
    """The step of pixels of which ``scale`` cover one of before."""
    size = step.size / scale
    return Step(size, step.unit, step.start - (step.size - size) / 2)


def _finer_affine(
    affine: tuple[tuple[float, ...], ...], scale: int
) -> tuple[tuple[float, ...], ...]:
    """The place of voxels of which ``scale`` cover one of before, along each axis."""
    first = (1 / scale - 1) / 2  # where the centre of the first one was, in voxels of before
    rows = []
    for *directions, origin in affine[:3]:
        moved = origin + first * sum(directions)
        rows.append((*(direction / scale for direction in directions), moved))
    return (*rows, affine[3])


def _cut_affine(
    affine: tuple[tuple[float, ...], ...], first: tuple[int, int, int]
) -> tuple[tuple[float, ...], ...]:
    """The place of voxels that are counted from another first one, at (x, y, z)."""
    rows = []
    for *directions, origin in affine[:3]:
        moved = origin + sum(d * count for d, count in zip(directions, first, strict=True))
        rows.append((*directions, moved))
    return (*rows, affine[3])


# ModelPixelScale, ModelTiepoint and ModelTransformation, GeoTIFF 1.1, section 7.
PIXEL_SCALE, TIE_POINTS, TRANSFORMATION = 33550, 33922, 34264
GEOGRAPHIC = (PIXEL_SCALE, TIE_POINTS, TRANSFORMATION, 34735, 34736, 34737)


def _finer_tag(tag: Tag, scale: int) -> Tag:
    """A geographic tag for pixels of which ``scale`` cover one of before.

    Positions in the raster count from the corner of the first pixel (PixelIsArea).
    """
    if scale == 1 or tag.code not in (PIXEL_SCALE, TIE_POINTS, TRANSFORMATION):
        return tag
    values = list(tag.value)
    if tag.code == TIE_POINTS:
        changed = [value * scale if i % 6 < 2 else value for i, value in enumerate(values)]
    elif tag.code == PIXEL_SCALE:
        changed = [value / scale if i < 2 else value for i, value in enumerate(values)]
    else:
        changed = [value / scale if i % 4 < 2 else value for i, value in enumerate(values)]
    return tag._replace(value=tuple(changed))


def _cut_tag(tag: Tag, x: int, y: int) -> Tag:
    """A geographic tag for pixels that are counted from another first one, at (x, y)."""
    values = list(tag.value) if tag.code in (TIE_POINTS, TRANSFORMATION) else []
    if tag.code == TIE_POINTS:
        values = [value - (x, y, 0, 0, 0, 0)[i % 6] for i, value in enumerate(values)]
    elif tag.code == TRANSFORMATION:
        for row in range(0, len(values) - len(values) % 4, 4):
            values[row + 3] += values[row] * x + values[row + 1] * y
    return tag._replace(value=tuple(values)) if values else tag
