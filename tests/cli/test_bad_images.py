"""Images that do not suit a model."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from ..helpers import write_noisy_pairs

BAD_IMAGES = {
    "channels": (np.ones((20, 24, 3), np.float32), "the image has 3 channels, the model was "
                 "trained on images with 1"),
    "several images": (np.ones((2, 20, 24), np.float32), "holds 2 images (axes ZYX, shape (2, 20, "
                       "24)), where one is expected; if they are its channels or a volume, set "
                       "axes or network.ndim"),
    "NaN": (np.full((20, 24), np.nan), "480 of 480 values are NaN or infinite; replace them"),
    "complex": (np.ones((20, 24), np.complex64), "pixels of type complex64 are not real numbers"),
    "too small": (np.ones((2, 24), np.float32), "dilation 3 is too large for an image of size 2: "
                  "symmetric padding allows at most 2"),
}  # fmt: skip


def write(path: Path, image: np.ndarray) -> None:
    tifffile.imwrite(path, image, photometric="rgb" if image.shape[-1] == 3 else "minisblack")


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_images_that_do_not_suit_the_model(refused, regression_run, images, tmp_path, name):
    image, message = BAD_IMAGES[name]
    path = images / "image_001.tif"
    write(path, image)
    arguments = ["predict", regression_run, images, "-o", tmp_path / "out"]
    # The results of the images before it stay.
    found = refused(*arguments, code=3, leaves={"out/image_000.tif"})
    assert found == f"{path}: {message}"


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_opacity_is_named_where_it_may_be_one_channel_too_many(
    refused, regression_run, tmp_path, mode
):
    Image.new(mode, (24, 20)).save(tmp_path / "a.png")
    found = refused("predict", regression_run, tmp_path / "a.png", "-o", tmp_path / "b", code=3)
    cure = (
        "; if its last channel is opacity, save the image without it, otherwise with the channels "
        "that the network takes"
    )
    assert found.endswith(f"images with 1{cure if mode == 'LA' else ''}")


@pytest.mark.parametrize("name", ["channels", "NaN", "complex", "too small"])
@pytest.mark.parametrize("kind", ["input", "target"])
def test_pairs_that_do_not_suit_the_model(refused, regression_run, tmp_path, kind, name):
    pairs = write_noisy_pairs(tmp_path / "pairs", 2)
    image, _ = BAD_IMAGES[name]
    write(Path(pairs[kind]) / "image_001.tif", image)
    found = refused(
        "evaluate", regression_run, "--input", pairs["input"], "--target", pairs["target"], code=3
    )
    assert "image_001.tif" in found
    if name == "channels":
        model = {"input": "the model was trained on images with 1", "target": "the model outputs 1"}
        assert found.endswith(f"has 3 channels, {model[kind]}")


def test_images_that_are_not_there(refused, regression_run, tmp_path):
    arguments = ["-o", tmp_path / "out"]
    found = refused("predict", regression_run, tmp_path / "*.png", *arguments, code=3)
    assert found == f"{tmp_path}/*.png: no image matches; the folder {tmp_path} is empty"
    found = refused("predict", regression_run, "-", *arguments, code=3, stdin="none.tif\n")
    assert found.startswith("none.tif: no such file or folder")
