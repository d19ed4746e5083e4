import json

import numpy as np
import pytest
import tifffile

from msdtool.errors import InputError
from msdtool.evaluate import draw, evaluate, open_pairs
from msdtool.predict import Predictor
from tests.helpers import LABELS, PNG_START, write_labelled_pairs, write_noisy_pairs, write_stack


def load(run):
    return Predictor.load(run, "cpu")


def images(folder):
    return [tifffile.imread(file).astype(np.float64) for file in sorted(folder.iterdir())]


def psnr(a, b, data_range):
    return 10 * np.log10(data_range**2 / np.mean((a - b) ** 2))


def test_regression_is_measured_beside_the_inputs_as_they_are(regression_run, tmp_path):
    specs = write_noisy_pairs(tmp_path, 3, seed=5)
    predictor = load(regression_run)
    pairs = open_pairs(predictor, [specs["input"]], specs["target"], None)
    reported = []
    evaluation = evaluate(predictor, pairs, lambda *place: reported.append(place))
    noisy, clean = images(tmp_path / "noisy"), images(tmp_path / "clean")
    outputs = [predictor(pairs.sample(i).input)[0].numpy().astype(np.float64) for i in range(3)]
    data_range = float(np.max(clean) - np.min(clean))
    assert evaluation.output["data_range"] == pytest.approx(data_range, rel=1e-6)
    for found, candidates in ((evaluation.output, outputs), (evaluation.input, noisy)):
        expected = [psnr(a, b, data_range) for a, b in zip(candidates, clean, strict=True)]
        assert found["psnr"] == pytest.approx(np.mean(expected), rel=1e-4)
        assert found["data_range"] == data_range
    assert [row["image"] for row in evaluation.images] == [pairs.name(i) for i in range(3)]
    mae = [np.abs(a - b).mean() for a, b in zip(outputs, clean, strict=True)]
    assert [row["mae"] for row in evaluation.images] == pytest.approx(mae, rel=1e-4)
    assert reported == [(1, 3), (2, 3), (3, 3)]


def test_segmentation_is_measured_by_the_pixels_of_all_images(segmentation_run, tmp_path):
    specs = write_labelled_pairs(tmp_path, 3, seed=5)
    predictor = load(segmentation_run)
    pairs = open_pairs(predictor, [specs["input"]], specs["target"], None)
    evaluation = evaluate(predictor, pairs)
    found = [predictor.to_image(predictor(pairs.sample(i).input))[0] for i in range(3)]
    truth = images(tmp_path / "labels")
    hits = np.concatenate([(a == b).ravel() for a, b in zip(found, truth, strict=True)])
    assert evaluation.output["accuracy"] == pytest.approx(hits.mean())
    assert evaluation.output["iou"].keys() == {str(value) for value in LABELS}
    assert evaluation.input is None


def test_a_mask_limits_what_is_measured(regression_run, tmp_path):
    specs = write_noisy_pairs(tmp_path, 1)
    mask = np.zeros((20, 24), np.uint8)
    mask[:5] = 255
    write_stack(tmp_path / "mask", [mask])
    predictor = load(regression_run)
    pairs = open_pairs(predictor, [specs["input"]], specs["target"], str(tmp_path / "mask"))
    (noisy,), (clean,) = images(tmp_path / "noisy"), images(tmp_path / "clean")
    expected = np.mean((noisy - clean)[:5] ** 2)
    assert evaluate(predictor, pairs).input["mse"] == pytest.approx(expected, rel=1e-5)


def test_an_image_that_the_network_cannot_take_is_named(regression_run, tmp_path):
    specs = write_noisy_pairs(tmp_path, 2)
    write_stack(tmp_path / "noisy", [np.ones((3, 20, 24), np.float32)], "CYX")
    predictor = load(regression_run)
    pairs = open_pairs(predictor, [specs["input"]], specs["target"], None)
    with pytest.raises(InputError, match=r"image_000\.tif: the image has 3 channels"):
        evaluate(predictor, pairs)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("kind", ["regression_run", "segmentation_run"])
def test_a_figure_shows_up_to_three_pairs(kind, count, request, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(
        "msdtool.evaluate.figure.save_comparisons",
        lambda _, rows, labels: shown.append((rows, labels)),
    )
    write = write_noisy_pairs if kind == "regression_run" else write_labelled_pairs
    predictor, specs = load(request.getfixturevalue(kind)), write(tmp_path, count)
    pairs = open_pairs(predictor, [specs["input"]], specs["target"], None)
    evaluation = evaluate(predictor, pairs)
    draw(predictor, pairs, evaluation, tmp_path / "figure.png")
    ((rows, labels),) = shown
    assert labels == (() if kind == "regression_run" else (0, 127, 255))
    names = [row.title.split(", ")[1] for row in rows]
    assert len(names) == min(count, 3)
    assert len(set(names)) == len(names)
    key = "psnr" if kind == "regression_run" else "accuracy"
    values = {row["image"].rpartition("/")[2]: row[key] for row in evaluation.images}
    assert values[names[0]] == max(values.values())
    assert values[names[-1]] == min(values.values())


def test_a_figure_is_a_png(regression_run, tmp_path):
    specs = write_noisy_pairs(tmp_path, 1)
    predictor = load(regression_run)
    pairs = open_pairs(predictor, [specs["input"]], specs["target"], None)
    draw(predictor, pairs, evaluate(predictor, pairs), tmp_path / "new" / "figure.png")
    assert (tmp_path / "new" / "figure.png").read_bytes().startswith(PNG_START)


def test_the_range_of_the_targets_counts_and_not_that_of_other_training_data(
    cli, regression_run, tmp_path
):
    specs = write_noisy_pairs(tmp_path, 2, seed=5)
    arguments = ("evaluate", regression_run, "--input", specs["input"], "--target", specs["target"])
    clean = np.stack(images(tmp_path / "clean"))
    found = json.loads(cli(*arguments, "--json").out)["output"]
    assert found["data_range"] == pytest.approx(float(clean.max() - clean.min()), rel=1e-6)
    wider = json.loads(cli(*arguments, "--json", "--data-range", 10 * found["data_range"]).out)
    assert wider["output"]["psnr"] == pytest.approx(found["psnr"] + 20, rel=1e-9)
    assert "data_range" in cli(*arguments).out
    assert cli(*arguments, "--data-range", 0).code == 2
