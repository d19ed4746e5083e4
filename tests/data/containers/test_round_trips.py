"""Every kind of file, order of axes and type of pixel: what is written is read again."""

import numpy as np
import pytest

from msdtool import ImageStack
from msdtool.data import Source
from msdtool.data.readers import arrangement, read_image
from msdtool.data.specifiers import Location

from . import writing

SIZES = {"T": 2, "C": 2, "Z": 3, "Y": 18, "X": 21}
DTYPES = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
          "float16", "float32", "float64"]  # fmt: skip

# The suffix of a kind of file, whether it keeps the names of axes, and what it cannot hold.
KINDS = {
    "tiff": (".tif", True),
    "plain_tiff": (".tif", False),
    "big_tiff": (".btf", True),
    "zlib_tiff": (".tif", True),
    "ome_tiff": (".ome.tif", True),
    "imagej_tiff": (".tif", True),
    "npy": (".npy", False),
    "fortran_npy": (".npy", False),
    "raw": (".raw", False),
    "hdf5": (".h5", True),
    "plain_hdf5": (".hdf5", False),
    "zarr3": (".zarr", True),
    "zarr2": (".zarr", False),
    "ome_zarr": (".zarr", True),
}
LACKING = {
    "imagej_tiff": set(DTYPES) - {"uint8", "uint16", "float32"},
    "ome_tiff": {"int64", "uint64", "float16"},
}


def example(axes, dtype):
    """An array with the extreme values of its type among others."""
    rng = np.random.default_rng(0)
    dtype, shape = np.dtype(dtype), [SIZES[axis] for axis in axes]
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    array = rng.integers(0, 120, shape).astype(dtype)
    array.flat[:2] = limits.min, limits.max
    return array


def write(folder, kind, array, axes):
    suffix, keeps_names = KINDS[kind]
    path = folder / f"a{suffix}"
    getattr(writing, kind)(path, array, axes)
    is_raw = kind == "raw"
    return Location(
        path,
        "/entry/data" if kind.endswith("hdf5") else "",
        axes=None if keeps_names else axes,
        shape=array.shape if is_raw else None,
        dtype=str(array.dtype) if is_raw else None,
    )


def images_of(array, axes, ndim):
    """The images [C, *space] of an array, by moving its axes one by one."""
    space = "ZYX"[-ndim:]
    order = [x for x in "TZ" if x in axes and x not in space] + [
        x for x in "C" + space if x in axes
    ]
    moved = array.transpose([axes.index(x) for x in order])
    if "C" not in axes:
        moved = np.expand_dims(moved, -ndim - 1)
    return moved.reshape(-1, *moved.shape[-ndim - 1 :])


def check(location, array, axes, ndim):
    expected = images_of(array, axes, ndim)
    found = arrangement(location, ndim)
    assert (found.num_images, found.image_shape) == (len(expected), expected.shape[1:])
    region = (slice(1, 2), slice(5, 17), slice(0, 20))[-ndim:]
    for index, image in enumerate(expected):
        got = read_image(location, ndim, index=index)
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, image)
        part = read_image(location, ndim, index=index, window=region)
        np.testing.assert_array_equal(part, image[(slice(None), *region)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_types(tmp_path, kind, dtype):
    if dtype in LACKING.get(kind, ()):
        pytest.skip("the format has no such type")
    array = example("ZYX", dtype)
    check(write(tmp_path, kind, array, "ZYX"), array, "ZYX", 2)


@pytest.mark.parametrize("axes", ["YX", "ZYX", "CYX", "TYX", "ZCYX", "CZYX", "TZCYX"])
@pytest.mark.parametrize("kind", KINDS)
def test_axes(tmp_path, kind, axes):
    if kind == "plain_tiff" and len(axes) > 3:
        pytest.skip("pages without names make one axis")
    axes = {("ome_tiff", "TZCYX"): "TCZYX", ("imagej_tiff", "CZYX"): "ZCYX"}.get((kind, axes), axes)
    array = example(axes, "uint16")
    location = write(tmp_path, kind, array, axes)
    check(location, array, axes, 2)
    if "Z" in axes:
        check(location, array, axes, 3)


@pytest.mark.parametrize("axes", ["YXC", "XYZ", "YXZ", "XZCY", "YZX", "CXTYZ"])
@pytest.mark.parametrize("kind", ["npy", "fortran_npy", "raw", "plain_hdf5", "zarr2"])
def test_unusual_axes(tmp_path, kind, axes):
    array = example(axes, "int16")
    location = write(tmp_path, kind, array, axes)
    check(location, array, axes, 2)
    if "Z" in axes:
        check(location, array, axes, 3)


@pytest.mark.parametrize("dtype", [">u2", "<u2", ">f4", "<f8"])
@pytest.mark.parametrize("kind", ["npy", "raw", "plain_hdf5", "zarr3"])
def test_byte_orders(tmp_path, kind, dtype):
    array = example("ZYX", dtype[1:]).astype(dtype)
    suffix, _ = KINDS[kind]
    getattr(writing, kind)(path := tmp_path / f"a{suffix}", array, "ZYX")
    location = Location(path, **({"shape": array.shape, "dtype": dtype} if kind == "raw" else {}))
    if kind == "plain_hdf5":
        location = Location(path, "entry/data")
    found = read_image(location, 3)
    assert found.dtype == np.dtype(dtype[1:])
    np.testing.assert_array_equal(found[0], array)


@pytest.mark.parametrize("kind", KINDS)
def test_stacks_take_them_all(tmp_path, kind):
    array = example("ZYX", "float32")
    array.flat[:2] = 0
    place = write(tmp_path, kind, array, "ZYX")
    inner = f"::{place.inner}" if place.inner else ""
    source = Source(f"{place.path}{inner}", axes=place.axes, shape=place.shape, dtype=place.dtype)
    stack = ImageStack(source)
    assert [image.tolist() for image in stack] == array[:, np.newaxis].tolist()
    assert stack.name(2) == f"{place.path}{inner}[2]"
    assert (stack.volume(1), stack.shape(0)) == (range(3), (1, 18, 21))
    volume = ImageStack(source, ndim=3)
    assert [image.tolist() for image in volume] == [[array.tolist()]]
    assert volume.name(0) == f"{place.path}{inner}"
