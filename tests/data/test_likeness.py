"""Images of the same object have more in common than others."""

import numpy as np
import pytest

from msdtool.data import ImageStack
from msdtool.data.likeness import likeness
from tests.helpers import smooth_image, write_stack

COUNT, SHAPE, NOISE = 6, (40, 48), 4.0


def repeats(tmp_path, order=None, *, objects=COUNT, shape=SHAPE):
    """Two noisy stacks of the same objects, the second one in another order."""
    rng = np.random.default_rng(0)
    clean = [smooth_image(shape, rng) for _ in range(objects)] * (COUNT // objects)
    stacks, arrays = [], []
    for name, places in (("a", range(COUNT)), ("b", order or range(COUNT))):
        images = [clean[k] + rng.normal(0, NOISE, shape) for k in places]
        arrays.append(np.array(images, dtype=np.float32))
        stacks.append(ImageStack(str(write_stack(tmp_path / name, arrays[-1]))))
    return stacks, arrays


def test_correlations_are_those_of_numpy(tmp_path):
    stacks, (first, second) = repeats(tmp_path)
    found = likeness(*stacks, range(COUNT))
    table = np.corrcoef(first.reshape(COUNT, -1), second.reshape(COUNT, -1))[:COUNT, COUNT:]
    own = np.diag(table).mean()
    assert found.own == pytest.approx(own)
    assert found.others == pytest.approx(table[~np.eye(COUNT, dtype=bool)].mean())
    assert found.is_paired


@pytest.mark.parametrize("order", [[1, 2, 3, 4, 5, 0], [5, 4, 3, 2, 1, 0]])
def test_another_order_is_noticed(tmp_path, order):
    stacks, _ = repeats(tmp_path, order)
    assert not likeness(*stacks, range(COUNT)).is_paired


def test_images_of_a_single_object_cannot_be_told_apart(tmp_path):
    stacks, _ = repeats(tmp_path, objects=1)
    found = likeness(*stacks, range(COUNT))
    assert found.own == pytest.approx(found.others, abs=0.05)
    assert found.own > 0.1


def test_a_single_pair_and_constant_images_say_nothing(tmp_path):
    stacks, _ = repeats(tmp_path)
    assert likeness(*stacks, [2]) is None
    flat = ImageStack(str(write_stack(tmp_path / "flat", np.ones((COUNT, *SHAPE), np.float32))))
    assert likeness(stacks[0], flat, range(COUNT)) is None


def test_few_images_are_read_far_from_each_other(tmp_path, monkeypatch):
    stacks, _ = repeats(tmp_path)
    read = []

    class Spy:
        def space(self, index):
            return SHAPE

        def read(self, index, window=None):
            read.append(index)
            return stacks[0].read(index % COUNT, window)

    likeness(Spy(), Spy(), range(100, 900))
    assert read[::2] == list(range(100, 900, 100))
