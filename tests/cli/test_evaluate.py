import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from msdtool.cli import console
from tests.helpers import LABELS, PNG_START, write_labelled_pairs, write_noisy_pairs, write_stack

LABEL_TEXTS = list(map(str, LABELS))


@pytest.fixture
def noisy(tmp_path):
    specs = write_noisy_pairs(tmp_path, 2, seed=4)
    return ["--input", specs["input"], "--target", specs["target"]]


@pytest.fixture
def labelled(tmp_path):
    specs = write_labelled_pairs(tmp_path, 2, seed=4)
    return ["--input", specs["input"], "--target", specs["target"]]


def test_a_regression_is_shown_beside_its_inputs(cli, regression_run, noisy):
    result = cli("evaluate", regression_run, *noisy)
    assert (result.code, result.err) == (0, "")
    head, *lines, last = result.out.splitlines()
    assert head.split() == ["output", "input", "95", "%", "interval"]
    assert [line.split()[0] for line in lines] == ["mse", "mae", "psnr", "ssim", "data_range"]
    for line in lines[:-1]:
        name, output, _, low, to, high = line.split()
        assert to == "to" and float(low) <= float(output) <= float(high), name
    assert len(lines[-1].split()) == 3
    assert last == "means over 2 images"


def test_a_segmentation_is_shown_label_by_label(cli, segmentation_run, labelled):
    result = cli("evaluate", segmentation_run, *labelled)
    lines = [line.split() for line in result.out.splitlines()]
    assert lines[0] == ["output", "95", "%", "interval"]
    assert [line[0] for line in lines[1:4]] == ["accuracy", "mean_iou", "mean_dice"]
    names = ("iou", "dice", "precision", "recall", "hd95", "assd")
    assert [line[:2] for line in lines[4:22]] == [
        [name, label] for name in names for label in ("0", "127", "255")
    ]
    assert lines[22] == ["all", "pixels", "of", "2", "images"]
    title, head, *rows = lines[-5:]
    assert (title, head) == (["pixels", "by", "label"], ["target", "\\", "output", *LABEL_TEXTS])
    matrix = np.array([list(map(int, row[1:])) for row in rows])
    assert matrix.sum() == 2 * 20 * 24
    targets = [tifffile.imread(file) for file in sorted(Path(labelled[3]).iterdir())]
    for row, pixels in zip(rows, matrix, strict=True):
        assert pixels.sum() == sum((target == int(row[0])).sum() for target in targets)
    accuracy = np.trace(matrix) / matrix.sum()
    assert float(lines[1][1]) == pytest.approx(accuracy, rel=1e-4)


def test_labels_that_an_image_lacks_are_told_and_many_labels_have_no_table(
    cli, segmentation_run, labelled
):
    flat = sorted(Path(labelled[3]).iterdir())[0]
    tifffile.imwrite(flat, np.zeros_like(tifffile.imread(flat)))
    report = json.loads(cli("evaluate", segmentation_run, *labelled, "--json").out)
    assert report["images"][0]["hd95"]["255"] is None
    assert report["output"]["surface_images"]["255"] <= 1
    count = report["output"]["surface_images"]["255"]
    text = cli("evaluate", segmentation_run, *labelled).out
    assert f"hd95 and assd 255: over {count} of 2 images, with this label" in text
    many = {"labels": list(range(40)), "pixels": [[0] * 40] * 40}
    assert console.confusion(many) == "confusion of 40 labels: with --json"


def test_targets_are_known_by_their_pixels(cli, regression_run, noisy, tmp_path):
    def digests(*more):
        report = json.loads(cli("evaluate", regression_run, *noisy, *more, "--json").out)
        return [image["target_digest"] for image in report["images"]]

    first = digests()
    assert len(set(first)) == 2
    shutil.copytree(noisy[3], tmp_path / "moved")
    noisy[3] = str(tmp_path / "moved")
    assert digests() == first
    masks = write_stack(tmp_path / "masks", [np.ones((20, 24), np.uint8), np.eye(20, 24)])
    assert not set(digests("--mask", masks)) & set(first)
    file = sorted(Path(noisy[3]).iterdir())[1]
    tifffile.imwrite(file, tifffile.imread(file) + 1)
    assert digests()[0] == first[0] and digests()[1] != first[1]


def test_the_run_keeps_its_last_evaluation(cli, regression_run, noisy, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(regression_run, run)
    result = json.loads(cli("evaluate", run, *noisy, "--json").out)
    kept = json.loads((run / "report" / "evaluation.json").read_text())
    assert (kept.pop("inputs"), kept.pop("targets"), kept.pop("masks")) == (
        [noisy[1]],
        noisy[3],
        None,
    )
    assert len(kept.pop("network")) == 64
    assert kept == result
    assert cli("evaluate", run / "checkpoints" / "best.pt", *noisy).code == 0


def test_a_run_directory_that_cannot_be_written_is_a_warning(cli, regression_run, noisy, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(regression_run, run)
    shutil.rmtree(run / "report")
    (run / "report" / "evaluation.json").mkdir(parents=True)
    result = cli("evaluate", run, *noisy)
    assert (result.code, result.out.splitlines()[-1]) == (0, "means over 2 images")
    assert "warning: " in result.err and "cannot compare this evaluation" in result.err


@pytest.mark.parametrize("kind", ["regression", "segmentation"])
def test_json_holds_what_the_table_holds_and_each_image(cli, kind, request):
    run = request.getfixturevalue(f"{kind}_run")
    specs = request.getfixturevalue("noisy" if kind == "regression" else "labelled")
    result = cli("evaluate", run, *specs, "--json")
    report = json.loads(result.out)
    assert len(report["images"]) == 2
    key = "psnr" if kind == "regression" else "accuracy"
    assert f"{report['output'][key]:.5g}" in cli("evaluate", run, *specs).out
    assert (report["input"] is None) == (kind == "segmentation")
    assert report["images"][0]["image"].endswith("image_000.tif")


def test_a_figure_can_be_drawn(cli, regression_run, noisy, tmp_path):
    figure = tmp_path / "figures" / "result.png"
    assert cli("evaluate", regression_run, *noisy, "--figure", figure, "--quiet").code == 0
    assert figure.read_bytes().startswith(PNG_START)


def test_the_calibration_of_labels_is_told_and_drawn(cli, segmentation_run, labelled, tmp_path):
    picture = tmp_path / "curve.png"
    result = cli("evaluate", segmentation_run, *labelled, "--calibration", picture, "--json")
    report = json.loads(result.out)
    found = report["calibration"]
    assert sum(found["pixels"]) == sum(map(sum, report["confusion"]["pixels"]))
    assert 0 <= found["expected_calibration_error"] <= 1
    assert picture.read_bytes().startswith(PNG_START)
    error = f"{found['expected_calibration_error']:.5g}"
    assert (
        f"calibration error of the probabilities: {error}"
        in cli("evaluate", segmentation_run, *labelled).out
    )


def test_a_regression_has_no_calibration_to_draw(cli, regression_run, noisy, tmp_path):
    result = cli("evaluate", regression_run, *noisy, "--calibration", tmp_path / "a.png", "--quiet")
    message = "error: --calibration: the model is for regression and has no probabilities\n"
    assert result == (2, "", message)
    both = ["--calibration", tmp_path / "a.png", "--figure", tmp_path / "a.png"]
    result = cli("evaluate", regression_run, *noisy, *both)
    assert result == (2, "", "error: --figure and --calibration: name two files\n")


@pytest.mark.parametrize("kind", ["regression", "segmentation"])
def test_parts_make_up_the_whole_and_the_last_one_says_so(cli, kind, request, tmp_path):
    run = request.getfixturevalue(f"{kind}_run")
    write = write_noisy_pairs if kind == "regression" else write_labelled_pairs
    specs = write(tmp_path / "data", 5, seed=4)
    arguments = [run, "--input", specs["input"], "--target", specs["target"], "--json"]
    whole = cli("evaluate", *arguments).out
    parts = tmp_path / "parts"
    for part in (2, 0):
        result = cli("evaluate", *arguments, "-o", parts, "--part", part, "--num-parts", 3)
        assert (result.code, result.out) == (0, f"{parts}/part-000{part}-of-0003.json\n")
    assert "1 of 3 parts are still missing" in result.err
    result = cli("evaluate", *arguments, "-o", parts, "--part", 1, "--num-parts", 3)
    assert (result.code, result.out) == (0, whole)


def test_parts_of_two_evaluations_do_not_mix(cli, regression_run, noisy, tmp_path):
    arguments = [regression_run, *noisy, "-o", tmp_path / "parts", "--num-parts", 2, "--part"]
    assert cli("evaluate", *arguments, 0).code == 0
    arguments[2] += "/*.tif"
    result = cli("evaluate", *arguments, 1)
    assert result.code == 3
    assert result.out == ""
    assert "part-0000-of-0002.json: belongs to another evaluation (different input)" in result.err


def test_parts_need_a_folder_to_meet(cli, regression_run, noisy, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    result = cli("evaluate", regression_run, *noisy)
    assert (result.code, result.out) == (2, "")
    assert "part 1 of 2 (by SLURM_ARRAY_TASK_ID): pass --output" in result.err
    assert cli("evaluate", regression_run, *noisy, "--num-parts", 1).code == 0


def test_images_that_cannot_be_paired_are_an_error(cli, regression_run, noisy):
    noisy[3] += "/image_000.tif"
    result = cli("evaluate", regression_run, *noisy)
    assert (result.code, result.out) == (3, "")
    assert "found 2 input images" in result.err


def test_a_label_that_the_model_does_not_know_is_an_error(cli, segmentation_run, noisy):
    result = cli("evaluate", segmentation_run, *noisy)
    assert (result.code, result.out) == (3, "")
    assert "data.labels allows 0, 127, 255" in result.err
