"""Images in another unit than the training images: a warning, and no result without contrast."""

import numpy as np
import pytest
import tifffile
import torch

from msdtool import MSDRegressionModel, MSDSegmentationModel
from msdtool.predict import Predictor


def counts(seed=0, space=(24, 20)):
    rng = np.random.default_rng(seed)
    return rng.normal(20_000, 5_000, space).clip(0, 65_535).astype(np.float32)


@pytest.fixture(params=["regression", "segmentation"])
def model(request, tmp_path):
    """A network of counts, with random weights."""
    torch.manual_seed(0)
    image = torch.tensor(counts())[None, None]
    if request.param == "regression":
        network, target = MSDRegressionModel(1, 1, 3, 1, device="cpu"), image
    else:
        network, target = MSDSegmentationModel(1, 3, 3, 1, device="cpu"), (image > 20_000).long()
    network.set_normalization([(image, target)])
    torch.nn.init.normal_(network.msd.final_layer.linear.weight)
    network.save(tmp_path / "model.pt", 1)
    return tmp_path / "model.pt"


@pytest.mark.parametrize("change", [lambda x: x / 65_535, lambda x: (x - 20_000) / 5_000])
def test_a_result_without_contrast_is_refused_and_both_figures_named(
    cli, model, tmp_path, caplog, change
):
    image = change(counts(1)).astype(np.float32)
    tifffile.imwrite(tmp_path / "other.tif", image)
    result = cli("predict", model, tmp_path / "other.tif", "-o", tmp_path / "out")
    assert result.code == 3
    assert "although the image is not" in result.err
    assert not list((tmp_path / "out").glob("*.tif"))
    (record,) = [item for item in caplog.records if item.levelname == "WARNING"]
    training = counts().astype(float)
    assert (
        f"other.tif: its values are {image.mean(dtype=float):.4g} on average with a spread of "
        f"{image.std(dtype=float):.4g}, those of the training images {training.mean():.4g} on "
        f"average with a spread of {training.std():.4g}: probably different data or units."
    ) in record.message
    assert "give the network images in the unit of its training images" in record.message


@pytest.mark.parametrize("image", [
    counts(1),
    0.5 * counts(1),
    np.zeros((24, 20), np.float32),
    np.full((24, 20), 65_535, np.float32),
], ids=["alike", "darker", "empty", "full"])  # fmt: skip
def test_other_images_of_the_unit_pass(model, caplog, image):
    predictor = Predictor.load(model, "cpu")
    image = torch.tensor(np.asarray(image, np.float32))[None]
    predictor.check(image, "image")
    predictor(image)
    assert not caplog.records


@pytest.mark.parametrize("image", [
    counts(1) + 20_000,
    counts(1) / 5,
    65_535 - counts(1),
    counts(1) - 32_768,
    3_000 + 600 * np.random.default_rng(0).normal(size=(24, 20)),
], ids=["brighter", "a fifth", "inverted", "int16", "air"])  # fmt: skip
def test_images_that_may_be_of_another_unit_are_told_once_and_computed(model, caplog, image):
    predictor = Predictor.load(model, "cpu")
    image = torch.tensor(np.asarray(image, np.float32))[None]
    for name in ("first", "second"):
        assert predictor.plausibility.check_input(image, name)
        predictor(image, name)
    told = [record.message for record in caplog.records if "its values are" in record.message]
    assert told[0].startswith("first: its values are ")
    assert "If these are other data or units, give the network images in the unit of" in told[0]
    assert "data.normalisation.per: image" in told[0]
    assert not any(message.startswith("second") for message in told)


def test_one_label_for_an_image_that_may_be_of_another_unit_is_told(tmp_path, caplog):
    network = MSDSegmentationModel(1, 3, 3, 1, device="cpu")
    image = torch.tensor(counts())[None, None]
    network.set_normalization([(image, (image > 20_000).long())])
    torch.nn.init.zeros_(network.msd.final_layer.linear.weight)
    network.save(tmp_path / "model.pt", 1)
    predictor = Predictor.load(tmp_path / "model.pt", "cpu")
    predictor(image[0], "alike")
    assert not caplog.records
    predictor(image[0] / 5, "a fifth")
    assert "a fifth: the result is one label everywhere although the image is not" in caplog.text


def test_a_warning_comes_once(model, caplog):
    predictor = Predictor.load(model, "cpu")
    for seed in range(3):
        predictor.check(torch.tensor(100 * counts(seed))[None], f"image {seed}")
    (record,) = caplog.records
    assert record.message.startswith("image 0: its values are ")


def test_an_output_with_contrast_is_not_refused(model):
    predictor = Predictor.load(model, "cpu")
    predictor(torch.tensor(100 * counts(1))[None])


def test_a_network_without_normalisation_has_no_unit(tmp_path, caplog):
    MSDRegressionModel(1, 1, 3, 1, device="cpu").save(tmp_path / "model.pt", 1)
    predictor = Predictor.load(tmp_path / "model.pt", "cpu")
    image = torch.tensor(counts())[None]
    predictor.check(image, "image")
    assert not predictor(image).any()
    assert not caplog.records


def test_strips_of_another_unit_are_named_as_well(model, caplog):
    predictor = Predictor.load(model, "cpu")
    predictor.usable_bytes = 0
    predictor.check(torch.tensor(counts() / 65_535)[None], "image")
    assert "image: its values are 0.30" in caplog.text
