import numpy as np
import pytest
import tifffile

from msdtool.errors import InputError
from msdtool.objects import LabelStack, find_objects

pytest.importorskip("cc3d")
ndimage = pytest.importorskip("scipy.ndimage")


def stack_of(folder, array, ndim, **options):
    tifffile.imwrite(folder / "labels.tif", array, photometric="minisblack", **options)
    return LabelStack(folder / "labels.tif", ndim=ndim)


def by_scipy(image, corners, background):
    """Objects of scipy.ndimage.label, label by label."""
    structure = ndimage.generate_binary_structure(image.ndim, image.ndim if corners else 1)
    found = []
    for label in np.unique(image[image != background]):
        numbers, count = ndimage.label(image == label, structure)
        for number, box in enumerate(ndimage.find_objects(numbers), 1):
            where = np.argwhere(numbers == number)
            first, last = (tuple(side.start for side in box), tuple(side.stop - 1 for side in box))
            found.append((int(label), len(where), tuple(where.mean(axis=0)), first, last))
        assert len(found) >= count
    return sorted(found, key=lambda item: (item[0], item[3], item[4], item[1], item[2]))


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("shape", [(37, 23), (11, 13, 9)])
@pytest.mark.parametrize("block_pixels", [1, 60, 10**6])
def test_objects_equal_those_of_scipy_whatever_the_blocks(tmp_path, shape, corners, block_pixels):
    rng = np.random.default_rng(0)
    image = rng.choice([0, 1, 2, 200], shape, p=[0.45, 0.4, 0.1, 0.05]).astype(np.uint8)
    stack = stack_of(tmp_path, image, len(shape))
    for background in (0, 1):
        options = {"background": background, "corners": corners, "block_pixels": block_pixels}
        found = sorted(
            find_objects(stack, 0, **options),
            key=lambda item: (item.label, item.first, item.last, item.pixels, item.position),
        )
        expected = by_scipy(image, corners, background)
        assert [item[:2] + item[3:] for item in found] == [item[:2] + item[3:] for item in expected]
        for item, other in zip(found, expected, strict=True):
            assert item.position == pytest.approx(other[2], rel=1e-6)


def test_parts_of_a_spiral_are_one_object_in_the_order_of_first_pixels(tmp_path):
    image = np.zeros((9, 9), np.int16)
    for inset in (0, 2):
        image[inset : 9 - inset, inset : 9 - inset] = 1
        image[inset + 1 : 8 - inset, inset + 1 : 8 - inset] = 0
    image[1, 1] = image[2, 1] = 1  # joins them
    image[4, 4] = -5
    found = find_objects(stack_of(tmp_path, image, 2), 0, block_pixels=9)
    assert [(item.label, item.pixels) for item in found] == [(1, 50), (-5, 1)]
    assert found[1].position == (4.0, 4.0)
    only = find_objects(stack_of(tmp_path, image, 2), 0, smallest=2)
    assert [item.label for item in only] == [1]


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.full((4, 5), 0.5, np.float32), "has the value 0.5; labels are whole numbers"),
        (np.full((4, 5), np.nan, np.float32), "has the value nan; labels are whole numbers"),
        (np.zeros((4, 5, 3), np.uint8), "has 3 channels; labels are a single one"),
    ],
)
def test_values_that_are_no_labels_are_refused(tmp_path, image, words):
    photometric = "rgb" if image.ndim == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", image, photometric=photometric)
    with pytest.raises(InputError, match=words):
        find_objects(LabelStack(tmp_path / "a.tif"), 0)
