"""NIfTI: files by nibabel are read, and nibabel reads ours."""

import nibabel
import numpy as np
import pytest

from msdtool.data.metadata import Description, Metadata, Packing, Step
from msdtool.data.readers import arrangement, metadata, read_image
from msdtool.data.sinks import Result, open_sink
from msdtool.data.specifiers import Location
from msdtool.errors import InputError

VALUES = np.random.default_rng(0).integers(0, 100, (2, 3, 4, 5)).astype(np.int16)  # [T, Z, Y, X]
TURNED = np.array([[0, -2.0, 0, 7], [1.0, 0, 0, 8], [0, 0, 3.0, 9], [0, 0, 0, 1]])


def write(path, array, affine=None, kind=nibabel.Nifti1Image, **scaling):
    """Write an array whose axes are [..., Z, Y, X]."""
    image = kind(array.T, np.diag([1.0, 2.0, 3.0, 1.0]) if affine is None else affine)
    image.header.set_xyzt_units("mm", "sec")
    if scaling:
        image.header.set_slope_inter(**scaling)
    nibabel.save(image, path)
    return Location(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_volumes_and_series(tmp_path, name, kind):
    place = write(tmp_path / name, VALUES, kind=kind)
    assert (arrangement(place, 3).axes, arrangement(place, 3).num_images) == ("TZYX", 2)
    assert read_image(place, 3, index=1).dtype == np.int16
    np.testing.assert_array_equal(read_image(place, 3, index=1)[0], VALUES[1])
    window = (slice(1, 3), slice(0, 2), slice(2, 5))
    np.testing.assert_array_equal(
        read_image(place, 3, index=0, window=window)[0], VALUES[(0, *window)]
    )
    np.testing.assert_array_equal(read_image(place, 2, index=4)[0], VALUES[1, 1])


@pytest.mark.parametrize(
    ("sizes", "axes"),
    [((5, 4), "YX"), ((5, 4, 3), "ZYX"), ((5, 4, 3, 1), "ZYX"), ((5, 4, 3, 1, 2), "CZYX")],
)
def test_axes(tmp_path, sizes, axes):
    array = np.arange(np.prod(sizes), dtype=np.int16).reshape(sizes[::-1])
    place = write(tmp_path / "a.nii", array)
    assert arrangement(place).axes == axes
    ndim = 3 if "Z" in axes else 2
    found = read_image(place, ndim)
    expected = array.reshape([size for size in array.shape if size > 1])
    np.testing.assert_array_equal(found if "C" in axes else found[0], expected)


def test_slope_and_intercept_are_applied(tmp_path):
    place = write(tmp_path / "a.nii", VALUES[0], slope=0.5, inter=10.0)
    stored = nibabel.load(tmp_path / "a.nii")
    found = read_image(place, 3)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found[0], np.asarray(stored.dataobj).T)


def test_colours_are_refused(tmp_path):
    pixels = np.zeros((5, 4, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(pixels, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(InputError, match="holds colours"):
        arrangement(Location(tmp_path / "a.nii"))


def test_sizes_units_and_place(tmp_path):
    image = nibabel.Nifti1Image(VALUES.T, np.diag([1.0, 2.0, 3.0, 1.0]))
    image.header.set_zooms((1.0, 2.0, 3.0, 4.0))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, tmp_path / "a.nii")
    found = metadata(Location(tmp_path / "a.nii"), 3)
    assert found.steps == {
        "X": Step(1.0, "mm"),
        "Y": Step(2.0, "mm"),
        "Z": Step(3.0, "mm"),
        "T": Step(4.0, "s"),
    }


def save(path, result, images):
    sink = open_sink("nii", path, result)
    for index, image in enumerate(images):
        sink.write(index, 0, image)
    sink.finish()
    return nibabel.load(path)


def test_a_result_lies_where_its_input_lay(tmp_path):
    says = metadata(write(tmp_path / "a.nii", VALUES[0], TURNED), 3)
    result = Result((3,), "Z", (1, 4, 5), "float32", {}, description=Description(says))
    found = save(tmp_path / "b.nii", result, VALUES[0][:, None].astype(np.float32))
    np.testing.assert_allclose(found.affine, TURNED)
    assert found.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(np.asarray(found.dataobj), VALUES[0].T)


def test_finer_voxels_cover_the_same_ground(tmp_path):
    says = metadata(write(tmp_path / "a.nii", VALUES[0], TURNED), 3).of_result("ZYX", 1, scale=2)
    finer = np.array(says.affine)
    # The centre of a voxel is the mean of the centres of the eight that took its place.
    for voxel in ([0, 0, 0], [2, 1, 0]):
        parts = [
            finer @ [*(2 * np.array(voxel) + np.array(part)), 1] for part in np.ndindex(2, 2, 2)
        ]
        np.testing.assert_allclose(np.mean(parts, 0), TURNED @ [*voxel, 1])


def test_the_place_of_a_result_of_another_format_is_in_millimetres(tmp_path):
    says = Metadata(steps={"X": Step(500.0, "µm", 1000.0), "Y": Step(2.0, "mm")})
    result = Result((), "", (1, 4, 5), "int16", {}, description=Description(says))
    found = save(tmp_path / "b.nii", result, [VALUES[0, :1]])
    np.testing.assert_allclose(found.affine[0], [0.5, 0, 0, 1.0])
    assert found.header.get_zooms()[:2] == (0.5, 2.0)


def test_channels_are_the_fifth_axis(tmp_path):
    result = Result((), "", (2, 3, 4, 5), "int16", {})
    found = save(tmp_path / "b.nii", result, VALUES[None])
    assert found.shape == (5, 4, 3, 1, 2)
    np.testing.assert_array_equal(np.asarray(found.dataobj)[:, :, :, 0].T, VALUES)


def test_integers_stand_for_values(tmp_path):
    says = Description(packing=Packing(0.5, 3.0))
    result = Result((), "", (1, 4, 5), "int16", {}, description=says)
    found = save(tmp_path / "b.nii", result, [VALUES[0, :1]])
    np.testing.assert_allclose(found.get_fdata().T, VALUES[0, 0] * 0.5 + 3.0)


def test_types_that_nifti_lacks(tmp_path):
    result = Result((), "", (1, 4, 5), "float16", {}, name="b.nii")
    with pytest.raises(InputError, match=r"b\.nii: NIfTI cannot hold such pixels"):
        open_sink("nii", tmp_path / "b.nii", result)
    assert list(tmp_path.iterdir()) == []


def test_long_axes_make_nifti_2(tmp_path):
    result = Result((), "", (1, 2, 40000), "int16", {})
    found = save(tmp_path / "b.nii", result, np.ones((1, 1, 2, 40000), np.int16))
    assert isinstance(found, nibabel.Nifti2Image)
    assert np.asarray(found.dataobj).sum() == 80000
