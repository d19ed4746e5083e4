"""What of a file's metadata still holds for a result."""

import numpy as np
import pytest

from msdtool.data.metadata import Metadata, Step, Tag
from msdtool.data.metadata.base import known_unit, step_of, steps_of


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("um", "µm"),
        ("micron", "µm"),
        ("\u03bcm", "µm"),
        ("Å", "Å"),
        ("furlong", "furlong"),
        ("", ""),
    ],
)
def test_a_unit_has_one_spelling(name, unit):
    assert known_unit(name) == unit


@pytest.mark.parametrize(
    "size", [0, -1, float("nan"), float("inf"), 1e300, 1e-300, None, "wide", [1]]
)
def test_what_is_no_distance_is_no_step(size):
    assert step_of(size) is None


def test_a_length_is_known_in_metres():
    assert Step(650, "nm").metres == pytest.approx(6.5e-7)
    assert Step(1, "pixel").metres is None


def test_finer_pixels_cover_the_same_ground():
    says = Metadata(steps={"X": Step(2.0, "µm", 10.0), "T": Step(5.0, "s")})
    steps = says.of_result("TYX", 1, scale=4).steps
    # The first pixel covered 9 to 11; of its four parts, the first covers 9 to 9.5.
    assert steps == {"X": Step(0.5, "µm", 9.25), "T": Step(5.0, "s")}


def test_axes_that_a_result_lacks_are_left_out():
    says = Metadata(steps={"X": Step(1.0), "Z": Step(2.0)})
    assert says.of_result("YX", 1).steps == {"X": Step(1.0)}


@pytest.mark.parametrize(
    ("channels", "are_values", "kept"),
    [(2, True, ("red", "green")), (1, True, ()), (2, False, ())],
)
def test_names_of_channels_are_kept_where_they_still_fit(channels, are_values, kept):
    says = Metadata(channels=("red", "green"))
    assert says.of_result("CYX", channels, are_values=are_values).channels == kept


def test_labels_have_no_unit():
    says = Metadata(attributes={"units": "counts", "sample": "bone"})
    assert says.of_result("YX", 1).attributes == {"units": "counts", "sample": "bone"}
    assert says.of_result("YX", 1, are_values=False).attributes == {"sample": "bone"}


def place(tags, column, row):
    """Where a corner of a pixel is on the map, by the GeoTIFF standard, annex B.6."""
    values = {tag.code: tag.value for tag in tags}
    if 34264 in values:
        m = values[34264]
        return m[0] * column + m[1] * row + m[3], m[4] * column + m[5] * row + m[7]
    i, j, _, x, y, _ = values[33922]
    scale_x, scale_y, _ = values[33550]
    return x + (column - i) * scale_x, y - (row - j) * scale_y


TAGS = [
    (
        Tag(33550, 12, 3, (0.5, 0.25, 0.0)),
        Tag(33922, 12, 6, (3.0, 4.0, 0.0, 500000.0, 5000000.0, 0.0)),
        Tag(34735, 3, 4, (1, 1, 0, 0)),
    ),
    (Tag(34264, 12, 16, (0.5, 0.1, 0, 7.0, 0.2, -0.5, 0, 9.0, 0, 0, 0, 0, 0, 0, 0, 1)),),
]


@pytest.mark.parametrize("tags", TAGS)
def test_corners_of_finer_pixels_stay_where_they_are_on_the_map(tags):
    finer = Metadata(tags=tags).of_result("YX", 1, scale=3).tags
    assert [tag.code for tag in finer] == [tag.code for tag in tags]
    for column, row in ((0, 0), (10, 20)):
        assert place(finer, 3 * column, 3 * row) == pytest.approx(place(tags, column, row))


@pytest.mark.parametrize("tags", TAGS)
def test_corners_of_a_part_stay_where_they_are_on_the_map(tags):
    part = Metadata(tags=tags).cut({"X": 7, "Y": 5}).tags
    assert [tag.code for tag in part] == [tag.code for tag in tags]
    for column, row in ((7, 5), (10, 20)):
        assert place(part, column - 7, row - 5) == pytest.approx(place(tags, column, row))


def test_a_part_begins_where_it_was():
    says = Metadata(steps={"X": Step(0.5, "mm", 1.0), "Z": Step(2.0, "s"), "C": Step(1.0)})
    assert says.cut({"X": 4, "Y": 9, "Z": 3}).steps == {
        "X": Step(0.5, "mm", 3.0),
        "Z": Step(2.0, "s", 6.0),
        "C": Step(1.0),
    }


def test_a_part_of_a_nifti_volume_lies_where_nibabel_puts_it():
    nibabel = pytest.importorskip("nibabel")
    affine = np.array([[0.5, 0.1, 0, 7], [-0.1, 0.6, 0.2, -3], [0, 0.3, 2, 11], [0, 0, 0, 1]])
    volume = nibabel.Nifti1Image(np.zeros((8, 9, 10), np.float32), affine)
    says = Metadata(affine=tuple(map(tuple, affine.tolist()))).cut({"X": 2, "Y": 3, "Z": 4})
    np.testing.assert_allclose(says.affine, volume.slicer[2:, 3:, 4:].affine, rtol=1e-12)


@pytest.mark.parametrize("content", [None, [], "X", {"X": 1}, {"X": [1]}, {"X": ["a", "b", "c"]}])
def test_strange_records_are_no_steps(content):
    assert steps_of(content) == {}
