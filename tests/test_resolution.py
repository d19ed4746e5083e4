"""The resolution of halves whose detail is known to end somewhere."""

import numpy as np
import pytest
import tifffile

from msdtool import ImageStack, InputError
from msdtool.resolution import measure_resolution
from tests.helpers import write_stack


def halves(count, *shape, cutoff=0.2, noise=0.5):
    """Pairs of images whose signal has no frequency above the cutoff; the noise has."""
    rng = np.random.default_rng(3)
    grid = np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij")
    passes = np.sqrt(sum(np.square(axis) for axis in grid)) < cutoff
    for _ in range(count):
        signal = np.fft.ifftn(np.fft.fftn(rng.normal(size=shape)) * passes).real
        yield [(signal + noise * rng.normal(size=shape)).astype(np.float32) for _ in range(2)]


def stacks(folder, pairs, ndim=2):
    first, second = zip(*pairs, strict=True)
    return [
        ImageStack(write_stack(folder / name, images), ndim=ndim)
        for name, images in (("even", first), ("odd", second))
    ]


@pytest.mark.parametrize(("ndim", "shape"), [(2, (96, 128)), (3, (32, 40, 40))])
def test_detail_ends_where_it_was_cut(tmp_path, ndim, shape):
    found = measure_resolution(*stacks(tmp_path, halves(2, *shape), ndim))
    assert found.unit == "pixels"
    assert found.nyquist == 2
    for criterion in ("half-bit", "1/7"):
        # The window smears detail by about a ring, here 1/32 of a period per pixel at most.
        assert found.resolution(criterion) == pytest.approx(5, rel=0.13)


def test_lengths_are_in_the_files_unit(tmp_path):
    for name, image in zip(("even", "odd"), next(halves(1, 96, 96)), strict=True):
        (tmp_path / name).mkdir()
        tifffile.imwrite(
            tmp_path / name / "a.ome.tif",
            image,
            metadata={"axes": "YX", "PhysicalSizeX": 0.65, "PhysicalSizeXUnit": "µm",
                      "PhysicalSizeY": 0.65, "PhysicalSizeYUnit": "µm"},
        )  # fmt: skip
    found = measure_resolution(ImageStack(tmp_path / "even"), ImageStack(tmp_path / "odd"))
    assert found.unit == "µm"
    assert found.nyquist == pytest.approx(1.3)
    assert found.resolution("1/7") == pytest.approx(5 * 0.65, rel=0.1)


def test_noise_has_no_resolution_and_clean_images_the_finest(tmp_path):
    noise = measure_resolution(*stacks(tmp_path / "noise", halves(1, 64, 64, noise=1e4)))
    # A few coefficients of the first rings can agree by chance.
    assert (noise.resolution("half-bit") or 99) > 15
    clean = measure_resolution(*stacks(tmp_path / "clean", halves(1, 64, 64, cutoff=9, noise=0.1)))
    assert clean.resolution("half-bit") == clean.nyquist == 2


def test_what_lies_outside_of_a_disc_can_be_left_out(tmp_path):
    """Both halves are 0 there, and its edge would correlate at every frequency."""
    pairs = []
    radius = np.hypot(*np.meshgrid(*[(np.arange(96) - 47.5) / 48] * 2))
    for pair in halves(1, 96, 96):
        pairs.append([np.where(radius < 1, image + 100, 0).astype(np.float32) for image in pair])
    both = stacks(tmp_path, pairs)
    assert measure_resolution(*both).resolution("1/7") == 2
    assert measure_resolution(*both, disc=True).resolution("1/7") == pytest.approx(5, rel=0.15)


def test_images_that_cannot_be_paired_are_refused(tmp_path):
    pairs = list(halves(2, 16, 16))
    first, second = stacks(tmp_path / "a", pairs)
    (shorter, _) = stacks(tmp_path / "b", pairs[:1])
    with pytest.raises(InputError, match=r"have 2 images .* and 1 .*needs its partner"):
        measure_resolution(first, shorter)
    with pytest.raises(InputError, match="is the same image as its partner"):
        measure_resolution(first, first)
    tifffile.imwrite(second.paths[1], np.ones((16, 17), np.float32))
    with pytest.raises(InputError, match=r"1 x 16 x 16, .*1 x 16 x 17; all images need"):
        measure_resolution(first, second)
    tifffile.imwrite(second.paths[1], np.full((16, 16), np.nan, np.float32))
    with pytest.raises(InputError, match=r"image_001\.tif: holds NaN or infinite values"):
        measure_resolution(first, second)
