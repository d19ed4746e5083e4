"""Label values to class indices and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from msdtool.data.labels import IGNORED, LabelMap
from msdtool.errors import InputError

LISTS = st.lists(st.integers(-(2**31), 2**31 - 1), min_size=2, max_size=20, unique=True)


def refusal(label_map, image):
    with pytest.raises(InputError) as error:
        label_map.to_indices(np.asarray(image), "a.tif")
    return error.value.message


@given(LISTS, st.data())
def test_indices_are_positions_in_the_list(values, data):
    label_map = LabelMap(values)
    positions = data.draw(
        npst.arrays(np.int64, (1, 3, 4), elements=st.integers(0, len(values) - 1))
    )
    image = np.array([[[values[k] for k in row] for row in plane] for plane in positions])
    indices = label_map.to_indices(image, "a.tif")
    assert indices.dtype == np.int64
    np.testing.assert_array_equal(indices, positions)
    np.testing.assert_array_equal(label_map.to_values(indices), image)


@given(LISTS, st.data())
def test_any_value_that_is_not_listed_is_found(values, data):
    other = data.draw(st.integers(-(2**31), 2**31 - 1).filter(lambda value: value not in values))
    image = np.full((1, 2, 3), values[0])
    image[0, 1, 2] = other
    assert f"found the value {float(other):g} (1 pixels)" in refusal(LabelMap(values), image)


def test_k_labels_are_0_to_k_minus_1():
    assert LabelMap(3).values == [0, 1, 2]
    found = LabelMap(3).to_indices(np.array([[[2, 0, 1]]], np.uint8), "a.tif")
    assert found.tolist() == [[[2, 0, 1]]]


def test_the_ignored_value_gets_its_own_index():
    label_map = LabelMap([10, 20], ignore=15)
    found = label_map.to_indices(np.array([[[10, 15, 20]]]), "a.tif")
    assert found.tolist() == [[[0, IGNORED, 1]]]


@pytest.mark.parametrize(
    "dtype", [bool, np.uint8, np.int8, np.uint16, np.int32, np.uint64, np.float16, np.float64]
)
def test_whole_numbers_of_any_type_are_labels(dtype):
    image = np.array([[[0, 1, 1]]]).astype(dtype)
    assert LabelMap(2).to_indices(image, "a.tif").tolist() == [[[0, 1, 1]]]


def test_colour_images_are_labels_when_their_channels_agree():
    image = np.array([[[0, 1]]] * 3)
    assert LabelMap(2).to_indices(image, "a.tif").tolist() == [[[0, 1]]]
    image[2, 0, 0] = 1
    assert refusal(LabelMap(2), image) == (
        "a.tif: a label image needs one channel, this one has 3 that differ; save it with one "
        "channel, or as a PNG with a palette"
    )


def test_the_message_says_what_was_found_and_what_is_allowed():
    image = np.arange(12).reshape(1, 3, 4)
    assert refusal(LabelMap([0, 1, 3], ignore=2), image) == (
        "a.tif: found the values 4, 5, 6, 7, 8, 9, 10, 11 (8 pixels); data.labels allows 0, 1, 3 "
        "and data.ignore 2. List every value in data.labels, or name one to skip in data.ignore"
    )
    assert "found the values 2, 3, 4, 5, 6, 7, 8, 9 ... (10 pixels)" in refusal(LabelMap(2), image)
    assert "data.labels allows 0 to 10." in refusal(LabelMap(11), image)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.5, "0.5"),
        (np.nan, "nan"),
        (np.inf, "inf"),
        (-np.inf, "-inf"),
        (1e30, "1e+30"),
        (-1, "-1"),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_other_number_is_taken_for_a_label(dtype, value, shown):
    image = np.array([[[0, 1, value, value]]], dtype)
    assert f"found the value {shown} (2 pixels); data.labels allows 0, 1." in refusal(
        LabelMap(2), image
    )


def test_a_label_beyond_int64_is_refused():
    image = np.array([[[2**64 - 1]]], np.uint64)
    assert "found the value 1.84467e+19 (1 pixels)" in refusal(LabelMap([-1, 0]), image)
