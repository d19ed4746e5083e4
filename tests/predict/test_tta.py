"""Averages over the symmetries of an image."""

import numpy as np
import pytest
import torch

from msdtool.errors import Error
from msdtool.predict import Predictor
from tests.predict.test_strips import make_model, run, small


@pytest.mark.parametrize("labels", [(), (0, 7, 255)])
def test_symmetries_are_averaged(labels):
    model = make_model(labels=labels)
    image = torch.rand(1, 20, 31)
    plain = Predictor(model, "cpu")
    outputs = []
    for turns in range(4):
        for mirrored in (False, True):
            turned = torch.rot90(image, turns, (1, 2))
            turned = turned.flip(2) if mirrored else turned
            output = plain(turned)
            output = output.softmax(0) if labels else output
            output = output.flip(2) if mirrored else output
            outputs.append(torch.rot90(output, -turns, (1, 2)))
    expected = torch.stack(outputs).mean(0)
    found = Predictor(model, "cpu", tta=True)(image)
    torch.testing.assert_close(found.softmax(0) if labels else found, expected)
    turned = Predictor(model, "cpu", tta=True)(image.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(turned, found)


def test_symmetries_of_what_would_fill_the_memory_are_refused_unread(tmp_path):
    with (tmp_path / "a.npy").open("wb") as file:  # 4 GB, of which nothing is written
        header = {"descr": "<f4", "fortran_order": False, "shape": (32000, 32000)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 4 * 32000**2)
    with pytest.raises(Error) as error:
        run(small(make_model(), tta=True), tmp_path / "a.npy", tmp_path / "out")
    assert error.value.message == (
        f"{tmp_path}/a.npy: averages over networks, symmetries or splits keep the image and its "
        "results in memory, 12 GB, and 0.002 GB is left for them; allow more memory, or do not "
        "average"
    )


def test_symmetries_of_what_does_not_fit():
    model = make_model()
    image = torch.rand(1, 700, 500)
    predictor = small(model, tta=True)
    predictor.usable_bytes += 3 * image.nbytes
    torch.testing.assert_close(predictor(image), Predictor(model, "cpu", tta=True)(image))
