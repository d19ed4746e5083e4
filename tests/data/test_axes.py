"""Which axis is which."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msdtool.data.axes import arrange
from msdtool.errors import InputError


def axes(names, ndim=2, given=None):
    return arrange(names, tuple(range(2, 2 + len(names))), ndim, given, "a.tif").axes


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("?", "X"),
        ("??", "YX"),
        ("???", "ZYX"),
        ("????", "CZYX"),
        ("QYX", "ZYX"),
        ("IYX", "ZYX"),
        ("CYX", "CYX"),
        ("TYX", "TYX"),
        ("QYXS", "ZYXS"),
        ("QSYX", "ZSYX"),
        ("QCYX", "ZCYX"),
        ("IZYX", "CZYX"),
        ("tczyx", "TCZYX"),
        ("T????", "TCZYX"),
    ],
)
def test_what_a_file_does_not_name_is_x_y_z_c_from_the_end(names, expected):
    assert axes(names) == expected


def test_the_users_names_come_first():
    assert axes("CYX", given="ZYX") == "ZYX"
    assert axes("???", given="YXC") == "YXC"


@pytest.mark.parametrize(
    ("names", "ndim", "given", "message"),
    [
        ("?????", 2, None, "has 5 dimensions, shape (2, 3, 4, 5, 6), more than can be told apart"),
        ("QYXS", 2, "ZYX", "axes: ZYX names 3 axes, the array has 4, shape (2, 3, 4, 5)"),
        ("YX", 3, None, "has the axes YX, shape (2, 3); a volume needs Z, Y and X; save its "
         "slices as one file; for images, network.ndim is 2"),
        ("CYX", 3, None, "has the axes CYX, shape (2, 3, 4); a volume needs Z, Y and X; if "
         "these are not its axes, name them: {path: ..., axes: ZCYX}"),
        ("ZX", 2, None, "has the axes ZX, shape (2, 3); an image needs Y and X; if these are"),
        ("CYXS", 2, None, "has both channels and colours, axes CYXS, shape (2, 3, 4, 5)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_an_error(names, ndim, given, message):
    with pytest.raises(InputError) as error:
        axes(names, ndim, given)
    assert error.value.message.startswith("a.tif: ")
    assert message in error.value.message


@pytest.mark.parametrize(
    ("names", "shape", "meant", "rule"),
    [
        ("???", (32, 40, 3), "YXC", "ZYX"),
        ("???", (32, 40, 1), "YXC", "ZYX"),
        ("QYX", (32, 40, 4), "YXC", "ZYX"),
        ("????", (6, 32, 40, 1), "ZYXC", "CZYX"),
        ("????", (6, 32, 40, 2), "ZYXC", "CZYX"),
        ("T???", (6, 32, 40, 2), "TYXC", "TZYX"),
        ("T????", (2, 6, 32, 40, 3), "TZYXC", "TCZYX"),
    ],
)
def test_a_last_axis_that_may_be_channels_must_be_named(names, shape, meant, rule):
    with pytest.raises(InputError) as error:
        arrange(names, shape, 2, None, "a.npy")
    assert error.value.message == (
        f"a.npy: the last axis of the shape {shape} may be channels, and the file does not name "
        f"it; say which: {{path: ..., axes: {meant}}}, or axes: {rule} if images are {shape[-1]} "
        "pixels wide"
    )
    for named in (meant, rule):
        assert arrange(names, shape, 2, named, "a.npy").axes == named


@pytest.mark.parametrize(
    ("names", "shape"),
    [
        ("ZYX", (32, 40, 3)),
        ("CYX", (32, 40, 3)),
        ("TYX", (32, 40, 3)),
        ("??", (40, 3)),
        ("???", (32, 40, 5)),
        ("???", (3, 40, 3)),
        ("????", (3, 32, 40, 50)),
        ("QYXS", (6, 32, 40, 3)),
    ],
)
def test_other_last_axes_are_x(names, shape):
    assert arrange(names, shape, 2, None, "a.npy").axes[-1] in "XS"


def test_time_counts_the_images_of_a_network_of_images_and_is_the_first_axis_of_a_volume():
    assert axes("TYX", 2) == "TYX" and axes("TYX", 3) == "ZYX" and axes("TZYX", 3) == "TZYX"
    series = arrange("TCYX", (5, 2, 3, 4), 3, None, "a.tif")
    assert series.num_images == 1 and series.image_shape == (2, 5, 3, 4)


def test_an_array_without_pixels_is_an_error():
    with pytest.raises(InputError, match="has no pixels, its shape is \\(0, 3\\)"):
        arrange("YX", (0, 3), 2, None, "a.tif")


@settings(max_examples=60, deadline=None)
@given(st.permutations("TZCYX"), st.integers(2, 5), st.sampled_from([2, 3]), st.data())
def test_an_image_is_what_einsum_makes_of_the_array(order, count, ndim, data):
    """Any order of any of the axes, an image or volume at a time and a region of it."""
    needed = "ZYX"[-ndim:]
    names = "".join(x for x in order if x in needed or x in order[:count])
    rng = np.random.default_rng(0)
    array = rng.normal(size=[2 + "XYZCT".index(x) for x in names])
    found = arrange(names, array.shape, ndim, None, "a")
    counting = [x for x in names if x not in "C" + needed]
    kept = "".join(x for x in "C" + needed if x in names)
    images = np.einsum(f"{names}->{''.join(counting)}{kept}", array)
    images = images.reshape(-1, *images.shape[len(counting) :])
    if "C" not in names:
        images = images[:, None]
    assert (found.num_images, found.image_shape) == (len(images), images.shape[1:])
    region = tuple(
        slice(start := data.draw(st.integers(0, size - 1)), data.draw(st.integers(start + 1, size)))
        for size in images.shape[2:]
    )
    for index, image in enumerate(images):
        whole = found.to_image(array[found.key(index)])
        np.testing.assert_array_equal(whole, image)
        part = found.to_image(array[found.key(index, region)])
        np.testing.assert_array_equal(part, image[(slice(None), *region)])
