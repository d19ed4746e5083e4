"""Partial results that are damaged, or of files that have changed since."""

import json
import math
import os
from pathlib import Path

import pytest

from msdtool.errors import InputError
from msdtool.evaluate import PartFiles, evaluate, open_pairs
from msdtool.evaluate.part_content import read_part
from msdtool.predict import Predictor
from tests.helpers import LABELS, write_labelled_pairs, write_noisy_pairs


def measured(folder, run, write):
    """Two parts of an evaluation of three images, both there."""
    specs = write(folder / "images", 3, seed=4)
    predictor = Predictor.load(run, "cpu")
    pairs = open_pairs(predictor, [specs["input"]], specs["target"], None)
    parts = PartFiles(folder / "parts", predictor, specs, pairs, 2, 1.0)
    for part in (0, 1):
        parts.save(part, evaluate(predictor, pairs, indices=range(part, 3, 2), data_range=1.0))
    return parts, specs


@pytest.fixture(scope="module")
def regression(tmp_path_factory, regression_run):
    return measured(tmp_path_factory.mktemp("regression"), regression_run, write_noisy_pairs)[0]


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory, segmentation_run):
    folder = tmp_path_factory.mktemp("segmentation")
    return measured(folder, segmentation_run, write_labelled_pairs)[0]


@pytest.fixture
def first(regression):
    """The file of the first part, restored afterwards."""
    path = regression.path(0)
    content = path.read_bytes()
    yield path
    path.unlink()
    path.write_bytes(content)


TEXTS = ["", "{", "[]", "5", "\xff\xfe", "[" * 10**5, '{"a": ' + "9" * 5000 + "}"]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_what_is_not_a_part_is_told(regression, first, text):
    first.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError) as error:
        regression.load()
    assert error.value.message == (
        f"{first}: is damaged: is not a JSON object; remove the file and measure part 0 again"
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_is_not_waited_for(regression, first):
    first.unlink()
    os.mkfifo(first)
    with pytest.raises(InputError, match="cannot be read: it is a pipe"):
        regression.load()


def test_an_endless_file_is_not_read_to_its_end(regression, first):
    first.unlink()
    first.symlink_to("/dev/zero")
    with pytest.raises(InputError, match="cannot be read: it is a device"):
        regression.load()


def content_of(parts):
    return json.loads(parts.path(0).read_text())


IMAGE = dict.fromkeys(("mse", "mae", "psnr", "ssim"), 1.0)
WRONG = {
    "no images": ({"images": None}, "images is None; expected a list of 2"),
    "an image too few": ({"images": []}, r"images is \[\]; expected a list of 2"),
    "other images": ({"images": [{"x": 1}] * 2}, r"images\[0\] is .*; expected image, target_dig"),
    "outputs a number": ({"outputs": 5}, "outputs is 5; expected mse, mae, psnr, ssim of each"),
    "outputs a mapping": ({"outputs": {}}, "outputs is {}; expected mse, mae"),
    "no outputs": ({"outputs": []}, r"outputs is \[\]; expected that of the images"),
    "others' outputs": ({"outputs": [IMAGE] * 2}, "outputs is .*; expected that of the images"),
    "huge outputs": ({"outputs": [IMAGE | {"mse": 10**400}] * 2}, "outputs is .*; expected mse"),
    "inputs a text": ({"inputs": "x"}, "inputs is 'x'; expected mse"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_contradicts_itself_is_told(regression, name):
    change, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        read_part(content_of(regression) | change, (), 1.0, 2)


def test_values_of_an_image_are_checked(regression, segmentation):
    content = content_of(regression)
    content["images"][1]["psnr"] = "high"
    with pytest.raises(ValueError, match=r"images\[1\].psnr is 'high'; expected a value"):
        read_part(content, (), 1.0, 2)
    for key, value in (("pixels", {"a": [1, 2, 3]}), ("iou", {"a": 0.5}), ("accuracy", None)):
        content = content_of(segmentation)
        content["images"][0][key] = value
        with pytest.raises(ValueError, match=rf"images\[0\].{key} is"):
            read_part(content, LABELS, 1.0, 2)


@pytest.mark.parametrize(
    "outputs", [5, [], [[1, 2]], [[-1] * 3] * 3, [[2**62] * 3] * 3, [[1] * 3] * 3]
)
def test_a_confusion_matrix_is_that_of_the_images(segmentation, outputs):
    with pytest.raises(ValueError, match=r"outputs is .*; expected"):
        read_part(content_of(segmentation) | {"outputs": outputs}, LABELS, 1.0, 2)


@pytest.mark.parametrize("sums", [None, 5, [], [[1.0] * 15] * 3])
def test_damaged_sums_of_a_calibration_are_told(segmentation, sums):
    with pytest.raises(ValueError, match=r"reliability is .*; expected"):
        read_part(content_of(segmentation) | {"reliability": sums}, LABELS, 1.0, 2)


def test_a_part_is_read_as_it_was_measured(regression, segmentation):
    """Not all is refused; images that do not count, or whose outputs are not finite, pass."""
    assert len(regression.load().images) == len(segmentation.load().images) == 3
    content = content_of(regression)
    names = dict.fromkeys(IMAGE, math.nan)
    for outputs in (content["outputs"][:1], [content["outputs"][0], names]):
        images = [content["images"][0], content["images"][1] | names]
        found = read_part({"images": images, "outputs": outputs}, (), 1.0, 2)
        assert found.output_metrics.state() == outputs


@pytest.mark.parametrize("kind", ["input", "target"])
def test_parts_of_files_that_have_changed_since_do_not_mix(tmp_path, regression_run, kind):
    parts, specs = measured(tmp_path, regression_run, write_noisy_pairs)
    changed = sorted(Path(specs[kind]).iterdir())[1]
    os.utime(changed, ns=(0, changed.stat().st_mtime_ns + 10**9))
    pairs = open_pairs(parts.predictor, [specs["input"]], specs["target"], None)
    again = PartFiles(parts.folder, parts.predictor, specs, pairs, 2, 1.0)
    again.save(0, evaluate(parts.predictor, pairs, indices=range(0, 3, 2), data_range=1.0))
    with pytest.raises(InputError) as error:
        again.load()
    assert error.value.message == (
        f"{parts.path(1)}: belongs to another evaluation (different files); choose another folder, "
        "or remove the file and measure part 1 again"
    )
