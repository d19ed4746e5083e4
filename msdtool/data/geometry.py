"""Random rotations, changes of size and elastic deformations of a sample.

Each pixel of the deformed sample is read from a place in the image: inputs and targets of a
regression by linear interpolation, labels from the nearest pixel. The places may lie outside the
sample's window, so more of the image is read. What lies outside the image is reflected in the
input, so that the network sees no edge that real images do not have, but it does not count: it
would only repeat other pixels, mirrored.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from msdtool.data.augment import TRUNCATE, Range
from msdtool.data.interfaces import PairReader, Sample
from msdtool.data.labels import IGNORED
from msdtool.data.pairing import masked
from msdtool.data.patches import Window, enlarged, extent

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

LATTICE = 2.0
"""Points per standard deviation of a smooth field; between them it is interpolated."""
ROUNDING = 1e-5
"""The share that pixels that do not count may have in one that does."""


@dataclass(frozen=True)
class Geometry:
    """Ranges from which the deformation of each sample is drawn, uniformly; None: not applied.

    Attributes:
        rotation: angle in degrees: of volumes about a random axis, of images, and ``in_plane``,
            within them.
        scale: factor on the size of what is shown.
        elastic: standard deviation, in pixels, of a smooth random displacement along each axis
            (Simard et al., ICDAR 2003, section 2: white noise convolved with a Gaussian).
        elastic_sigma: standard deviation of that Gaussian, in pixels.
        in_plane: deform all slices of a volume, along its first axis, alike and within themselves.
    """

    rotation: Range | None = None
    scale: Range | None = None
    elastic: Range | None = None
    elastic_sigma: float = 8.0
    in_plane: bool = False

    def draw(self, space: Sequence[int], rng: np.random.Generator) -> "Deformation":
        """Draw the deformation of a sample of size ``space``."""
        ndim = len(space)
        moved = 2 if self.in_plane else ndim  # the last ones
        part: Array = np.eye(moved)
        if self.rotation is not None:
            part = rotation_matrix(math.radians(rng.uniform(*self.rotation)), moved, rng)
        if self.scale is not None:
            part = part / rng.uniform(*self.scale)
        matrix = np.eye(ndim)
        matrix[ndim - moved :, ndim - moved :] = part
        displacement = None
        if self.elastic is not None:
            strength = rng.uniform(*self.elastic)
            fields = [
                strength * smooth_field(space[ndim - moved :], self.elastic_sigma, rng)
                for _ in range(moved)
            ]
            still = [torch.zeros_like(fields[0])] * (ndim - moved)
            displacement = torch.stack([*still, *fields])
            if moved < ndim:
                displacement = displacement.unsqueeze(1).expand(ndim, *space)
        return Deformation(tuple(space), matrix, displacement)


def rotation_matrix(angle: float, ndim: int, rng: np.random.Generator) -> Array:
    """A rotation of the plane, or of space about a random axis (Rodrigues' formula), in radians."""
    cos, sin = math.cos(angle), math.sin(angle)
    if ndim == 2:
        return np.array([[cos, -sin], [sin, cos]])
    x, y, z = axis = _random_direction(rng)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return cos * np.eye(3) + sin * cross + (1 - cos) * np.outer(axis, axis)


def _random_direction(rng: np.random.Generator) -> Array:
    direction = rng.standard_normal(3)
    return direction / np.sqrt(np.sum(direction**2))


def smooth_field(space: Sequence[int], sigma: float, rng: np.random.Generator) -> Tensor:
    """White noise convolved with a Gaussian, of standard deviation 1, [*space] in float64.

    It is made on a lattice of ``LATTICE`` points per sigma and interpolated linearly. All sums are
    made in a fixed order: libraries make them in one that depends on the number of threads.
    """
    spacing = max(1, int(sigma / LATTICE))
    points = [-(-(length - 1) // spacing) + 1 for length in space]
    radius = round(TRUNCATE * sigma / spacing)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) * spacing / sigma) ** 2)
    taps /= math.sqrt(math.fsum(taps**2))  # keeps the standard deviation
    field = rng.standard_normal([count + 2 * radius for count in points])
    for axis, count in enumerate(points):
        lines = np.moveaxis(field, axis, 0)
        smooth = np.zeros((count, *lines.shape[1:]))
        for start, tap in enumerate(taps):
            smooth += tap * lines[start : start + count]
        field = np.moveaxis(smooth, 0, axis)
    fine = [spacing * (count - 1) + 1 for count in points]
    images = torch.from_numpy(np.ascontiguousarray(field))[None, None]
    smooth_image = F.interpolate(images, fine, mode=_linear(len(space)), align_corners=True)[0, 0]
    return smooth_image[tuple(slice(0, length) for length in space)]


def _linear(ndim: int) -> str:
    return {2: "bilinear", 3: "trilinear"}[ndim]


@dataclass(frozen=True)
class Deformation:
    """Where the pixels of a sample come from.

    Attributes:
        space: the size of the sample's input.
        matrix: [ndim, ndim]: maps places relative to the sample's centre to where they come from.
        displacement: what is added to that, in pixels, [ndim, *space]; None: nothing.
    """

    space: tuple[int, ...]
    matrix: Array
    displacement: Tensor | None

    def places(self, scale: int = 1) -> Tensor:
        """Where each pixel comes from, in pixels of the input from its first one's centre.

        Args:
            scale: of the target relative to the input: for its pixels.

        Returns:
            [ndim, *(scale * space)], float64.
        """
        ndim, space = len(self.space), [scale * length for length in self.space]
        offsets = []  # of the target's pixels from the centre, in the input's pixels
        for axis, (length, fine) in enumerate(zip(self.space, space, strict=True)):
            line = (torch.arange(fine, dtype=torch.float64) + 0.5) / scale - length / 2
            offsets.append(line.reshape([-1 if a == axis else 1 for a in range(ndim)]))
        places = []
        for row, length in zip(self.matrix.tolist(), self.space, strict=True):
            place = torch.full(space, (length - 1) / 2, dtype=torch.float64)
            for factor, offset in zip(row, offsets, strict=True):
                place = place + factor * offset
            places.append(place)
        found = torch.stack(places)
        if self.displacement is None:
            return found
        shift = self.displacement
        if scale > 1:
            shift = F.interpolate(shift[None], space, mode=_linear(ndim), align_corners=False)[0]
        return found + shift


def deformed(
    pairs: PairReader,
    index: int,
    window: Window,
    space: Sequence[int],
    deformation: Deformation,
) -> Sample:
    """Read what a deformation shows in a window of a pair.

    Args:
        pairs: where to read.
        index: of the pair.
        window: of the input, of the size of the deformation.
        space: the size of the whole input.
        deformation: where the pixels of the window come from.

    Returns:
        A sample of the window's size. Pixels from outside of the image do not count, and those of
        a regression that are made of any that do not.

    Raises:
        InputError: a file cannot be used.
    """
    scale = pairs.scale
    corner = torch.tensor([part.start for part in window], dtype=torch.float64)
    corner = corner.reshape(-1, *(1,) * len(space))
    places = deformation.places() + corner
    box = _read_from(places, space)
    read = pairs.sample(index, box)
    input = _interpolated(read.input, _grid(places, box))
    fine_box = box
    if scale > 1:
        places = (deformation.places(scale) + corner + 0.5) * scale - 0.5
        fine_box = enlarged(box, scale)
    grid = _grid(places, fine_box)
    ends = torch.tensor([scale * length for length in space], dtype=torch.float64)
    ends = ends.reshape(corner.shape) - 0.5
    inside = ((places >= -0.5) & (places <= ends)).all(0, keepdim=True)
    if read.target.is_floating_point():
        target, counts = _interpolated_target(read.target, read.mask, grid)
        counted = inside if counts is None else inside & counts
        return masked(read._replace(input=input, target=target, mask=None), counted)
    # Float32 holds indices up to 2^24.
    target = _sampled(read.target.float(), grid, "nearest").long()
    return read._replace(input=input, target=torch.where(inside, target, IGNORED))


def _read_from(places: Tensor, space: Sequence[int]) -> Window:
    """The smallest window of an image of size ``space`` that has all pixels that places need."""
    box = []
    for axis, length in zip(places, space, strict=True):
        start = min(max(int(axis.min().floor()), 0), length - 1)
        stop = min(max(int(axis.max().floor()) + 2, start + 1), length)
        box.append(slice(start, stop))
    return tuple(box)


def _grid(places: Tensor, box: Window) -> Tensor:
    """Places [ndim, *space] in an image as torch's grid_sample expects them of a window of it."""
    parts = [
        (2 * (axis - part.start) + 1) / size - 1
        for axis, part, size in zip(places, box, extent(box), strict=True)
    ]
    return torch.stack(parts[::-1], -1).float()


def _sampled(image: Tensor, grid: Tensor, mode: str = "bilinear") -> Tensor:
    return F.grid_sample(
        image[None], grid[None], mode=mode, padding_mode="reflection", align_corners=False
    )[0]


def _interpolated(image: Tensor, grid: Tensor) -> Tensor:
    """Interpolate [C, *space] about its mean: large offsets would be rounded."""
    centre = channel_means(image.flatten(1)).reshape(-1, *(1,) * (image.dim() - 1))
    return _sampled(image - centre, grid) + centre


def channel_means(values: Tensor) -> Tensor:
    """Mean of each row of [C, N], float32, to the same bit for any number of threads."""
    return torch.from_numpy(values.numpy().mean(1, dtype=np.float64).astype(np.float32))


def _interpolated_target(
    target: Tensor, mask: Tensor | None, grid: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Interpolate a target; its new mask selects what is made of pixels that count alone."""
    if mask is None:
        return _interpolated(target, grid), None
    if not mask.any():
        return torch.zeros(len(target), *grid.shape[:-1]), torch.zeros(1, *grid.shape[:-1]).bool()
    centre = channel_means(target.flatten(1)[:, mask.flatten()])
    centre = centre.reshape(-1, *(1,) * (target.dim() - 1))
    # What does not count is 0 and would be far from the others, even by its share of rounding.
    values = torch.where(mask, target - centre, 0.0)
    return _sampled(values, grid) + centre, _sampled(mask.float(), grid) >= 1 - ROUNDING
