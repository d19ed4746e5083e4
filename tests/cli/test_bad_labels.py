"""Labels and masks that cannot be learnt from."""

import numpy as np
import pytest

from tests.cli.test_bad_data import SIZE, put

from ..helpers import (
    write_stack,
)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full(SIZE, 3, np.uint8), "found the value 3 (480 pixels); data.labels allows 0, 127, "
         "255. List every value in data.labels, or name one to skip in data.ignore"),
        (np.full(SIZE, 0.5, np.float32), "found the value 0.5 (480 pixels); data.labels allows "),
        (np.full(SIZE, np.nan, np.float32), "found the value nan (480 pixels); data.labels "),
        (np.arange(3 * 480, dtype=np.uint8).reshape(3, *SIZE), "a label image needs one channel, "
         "this one has 3 that differ; save it with one channel, or as a PNG with a palette"),
    ],
    ids=["unlisted", "fractions", "NaN", "colours"],
)  # fmt: skip
def test_values_that_are_not_labels(refused, cli, labelled, tmp_path, image, message):
    path = tmp_path / "t/labels/image_001.tif"
    put(path, image)
    found = refused("train", labelled, code=3)
    assert found.startswith(f"{path}: {message}")
    assert f"problem: {path}: {message}" in cli("check", labelled).out


def test_labels_that_are_all_ignored(refused, cli, labelled, tmp_path):
    for path in (tmp_path / "t/labels").iterdir():
        put(path, np.full(SIZE, 9, np.uint8))
    message = "no pixel of the training targets counts; look at data.ignore and data.train.mask"
    options = ["--set", "data.ignore=9"]
    assert refused("train", labelled, *options, code=3) == message
    assert f"problem: {message}" in cli("check", labelled, *options).out


def test_masks_that_are_all_zero(refused, cli, noisy, tmp_path):
    masks = write_stack(tmp_path / "mask", [np.zeros(SIZE, np.uint8)] * 3)
    message = "no pixel of the training targets counts; look at data.train.mask"
    options = ["--set", f"data.train.mask={masks}"]
    assert refused("train", noisy, *options, code=3) == message
    assert f"problem: {message}" in cli("check", noisy, *options).out


def test_validation_labels_that_are_all_ignored(refused, cli, labelled, tmp_path):
    ignored = write_stack(tmp_path / "v", [np.full(SIZE, 9, np.uint8)] * 3)
    message = (
        "no pixel of the validation targets counts; look at data.ignore and data.validation.mask"
    )
    data = f"data.validation={{input: {ignored}, target: {ignored}}}"
    options = ["--set", "data.ignore=9", "--set", data]
    assert refused("train", labelled, *options, code=3) == message
    assert f"problem: {message}" in cli("check", labelled, *options).out


def test_validation_masks_that_are_all_zero(refused, cli, noisy, tmp_path):
    masks = write_stack(tmp_path / "mask", [np.zeros(SIZE, np.uint8)] * 3)
    message = "no pixel of the validation targets counts; look at data.validation.mask"
    images = f"input: {tmp_path}/t/noisy, target: {tmp_path}/t/clean, mask: {masks}"
    options = ["--set", f"data.validation={{{images}}}"]
    assert refused("train", noisy, *options, code=3) == message
    assert f"problem: {message}" in cli("check", noisy, *options).out


def test_a_mask_of_another_size(refused, noisy, tmp_path):
    masks = write_stack(tmp_path / "mask", [np.ones((5, 6), np.uint8)] * 3)
    found = refused("train", noisy, "--set", f"data.train.mask={masks}", code=3)
    assert found == (
        f"{tmp_path}/t/noisy/image_000.tif is 20 x 24 pixels, its mask {masks}/image_000.tif is "
        "5 x 6; both need the same size"
    )
