"""The symmetries of images and volumes."""

import numpy as np
import pytest
import torch

from msdtool.predict.symmetries import symmetries


@pytest.mark.parametrize("ndim", [2, 3])
def test_every_symmetry_is_another_one_and_is_undone(ndim):
    image = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)[:, : 1 if ndim == 2 else 3]
    image = image[:, 0] if ndim == 2 else image
    ways = symmetries(ndim)
    seen = {
        (tuple(way.apply(image).shape), tuple(way.apply(image).flatten().tolist())) for way in ways
    }
    assert len(ways) == len(seen) == 8
    for way in ways:
        assert torch.equal(way.undo(way.apply(image)), image)
    assert torch.equal(ways[0].apply(image), image)


def test_those_of_images_are_the_turns_and_mirror_images():
    image = np.arange(2 * 4 * 5).reshape(2, 4, 5)
    found = {way.apply(torch.from_numpy(image)).numpy().tobytes() for way in symmetries(2)}
    expected = {
        np.ascontiguousarray(np.rot90(mirrored, turns, axes=(1, 2))).tobytes()
        for mirrored in (image, image[:, :, ::-1])
        for turns in range(4)
    }
    assert found == expected
