import json
import sys
from pathlib import Path

import pytest
import torch

from msdtool.cli import main
from msdtool.runs.evaluations import save_evaluation
from msdtool.runs.rundir import RunDirectory


@pytest.fixture
def report(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["msdtool", "report", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        output = capsys.readouterr()
        return stopped.value.code, output.out, output.err

    return run


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two runs, by names that are short enough for one table."""
    monkeypatch.chdir(tmp_path)
    for name, losses in (("wide", (0.5, 0.25)), ("deep", (0.4, 0.125))):
        (tmp_path / name).mkdir()
        rows = [
            {"event": "epoch", "epoch": i, "step": i, "train_loss": loss, "validation_loss": loss,
             "ssim": 1 - loss, "seconds": float(i)}
            for i, loss in enumerate(losses, 1)
        ]  # fmt: skip
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / name / "metrics.jsonl").write_text(text)
    return [Path("wide"), Path("deep")]


def test_runs_stand_in_one_table(report, runs):
    code, out, _ = report(*runs)
    header, *lines = (line.split() for line in out.splitlines())
    assert code == 0
    assert header == ["run", "epochs", "best_epoch", "train_loss", "validation_loss", "ssim",
                      "seconds"]  # fmt: skip
    assert lines[0] == [str(runs[0]), "2", "2", "0.25", "0.25", "0.75", "2"]
    assert lines[1] == [str(runs[1]), "2", "2", "0.125", "0.125", "0.875", "2"]


def test_json_is_by_run(report, runs):
    _, out, _ = report(*runs, "--json")
    assert json.loads(out)[str(runs[1])]["ssim"] == 0.875


def test_settings_that_differ_are_shown(report, runs, monkeypatch, tmp_path):
    for run, depth in zip(runs, (30, 60), strict=True):
        data = "task: regression\ndata: {train: {input: a, target: b}}"
        (run / "config.yaml").write_text(f"{data}\nnetwork: {{depth: {depth}}}\n")
    table = report(*runs)[1].split("settings that differ\n")[1]
    assert [line.split() for line in table.splitlines()] == [
        ["run", "network.depth"],
        [str(runs[0]), "30"],
        [str(runs[1]), "60"],
    ]
    assert json.loads(report(*runs, "--json")[1])[str(runs[1])]["settings"] == {"network.depth": 60}
    drawn = {}
    monkeypatch.setattr("msdtool.report.curves.save_curves", lambda _, rows: drawn.update(rows))
    report(*runs, "--figure", tmp_path / "a.png")
    assert list(drawn) == [f"{runs[0]}: depth 30", f"{runs[1]}: depth 60"]


def test_the_figure_is_a_png(report, runs, tmp_path):
    figure = tmp_path / "curves.png"
    assert report(*runs, "--figure", figure)[0] == 0
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_a_page_is_written_beside_the_tables(report, runs, tmp_path):
    page = tmp_path / "new" / "report.html"
    code, out, _ = report(*runs, "-o", page)
    assert (code, out) == (0, report(*runs)[1])
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_a_page_tells_how_many_pairs_were_trained_on(report, cli, config, tmp_path):
    assert cli("train", config).code == 0
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)
    assert report(tmp_path / "run", "-o", tmp_path / "report.html")[0] == 0
    page = (tmp_path / "report.html").read_text()
    count = checkpoint["training"]["num_pairs"]["training"]
    assert f'pairs, training</th><td class="text">{count}<' in page
    (mean,) = checkpoint["model"]["normalisation"]["input_mean"]
    assert f'input mean</th><td class="text">{mean:.5g}<' in page


def test_a_page_does_not_replace_something_else(report, runs, tmp_path):
    place = tmp_path / "notes.html"
    place.write_text("mine")
    code, out, err = report(*runs, "-o", place)
    assert (code, out) == (2, "")
    assert f"{place}: cannot be written: it exists and is something else" in err
    assert place.read_text() == "mine"


def test_a_folder_that_is_not_a_run_exits_with_3(report, tmp_path):
    code, out, err = report(tmp_path)
    assert (code, out) == (3, "")
    assert f"{tmp_path}: no finished epoch" in err


def evaluated(run, gain, images=("a.tif", "b.tif", "c.tif"), **others):
    """Give a run an evaluation whose images are the better the greater the gain."""
    (run / "checkpoints").mkdir(exist_ok=True)
    (run / "checkpoints" / "best.pt").write_bytes(run.name.encode())
    rows = [
        {
            "image": image,
            "target_digest": f"of {image}",
            "psnr": 20.0 + 5 * number + gain,
            "ssim": None,
        }
        for number, image in enumerate(images)
    ]
    content = {
        "output": {"psnr": 25.0 + gain, "data_range": 1.0},
        "intervals": {"psnr": [20.0 + gain, 30.0 + gain]}, "confusion": None, "images": rows,
        **others,
    }  # fmt: skip
    save_evaluation(RunDirectory(run), content)


def test_evaluations_on_the_same_images_are_compared_image_by_image(report, runs):
    evaluated(runs[0], 0.0)
    evaluated(runs[1], 0.5)
    code, out, _ = report(*runs)
    assert code == 0
    _, metrics, differences = out.split("\n\n")
    title, head, wide, deep = metrics.splitlines()
    assert title == "evaluated, with 95 % intervals"
    assert head.split() == ["run", "images", "psnr", "data_range"]
    assert wide.split() == [str(runs[0]), "3", "25", "(20", "to", "30)", "1"]
    assert deep.split() == [str(runs[1]), "3", "25.5", "(20.5", "to", "30.5)", "1"]
    title, head, row = differences.splitlines()
    assert title == f"difference from {runs[0]}, image by image"
    assert row.split() == [str(runs[1]), "3", "0.5", "(0.5", "to", "0.5)"]
    found = json.loads(report(*runs, "--json")[1])
    assert found[str(runs[0])]["difference"] is None
    assert found[str(runs[0])]["evaluation"]["images"] == 3
    assert found[str(runs[1])]["difference"]["psnr"] == {
        "difference": 0.5, "interval": [0.5, 0.5], "images": 3
    }  # fmt: skip


@pytest.mark.parametrize(
    "others",
    [
        {"images": ("a.tif", "b.tif", "d.tif")},
        {"images": ("a.tif",)},
        {"output": {"psnr": 25.0, "data_range": 2.0}},
    ],
)
def test_evaluations_of_something_else_are_not_compared(report, runs, others):
    evaluated(runs[0], 0.0)
    evaluated(runs[1], 0.5, **others)
    out = report(*runs)[1]
    assert "difference" not in out
    assert f"not compared with {runs[0]}, evaluated on different targets" in out
    assert out.splitlines()[-1].endswith(str(runs[1]))


def test_the_confusion_of_a_segmentation_is_shown(report, runs):
    confusion = {"labels": [0, 255], "pixels": [[70, 1], [2, 30]]}
    evaluated(runs[0], 0.0, confusion=confusion)
    *_, title, head, first, second = report(*runs)[1].splitlines()
    assert title == f"pixels by label, {runs[0]}"
    assert head.split() == ["target", "\\", "output", "0", "255"]
    assert (first.split(), second.split()) == (["0", "70", "1"], ["255", "2", "30"])


def test_the_evaluation_of_an_earlier_network_is_left_out(report, runs):
    evaluated(runs[0], 0.0)
    (runs[0] / "checkpoints" / "best.pt").write_bytes(b"trained on")
    assert "evaluated" not in report(*runs)[1]


WRONG = {
    "images": (None, 5, [1], [{}], [{"target_digest": 1}], [{"target_digest": "a", "psnr": [1]}]),
    "output": (None, [], {"psnr": "x"}, {"psnr": 10**400}),
    "intervals": (None, {"psnr": 1}, {"psnr": ["a", "b"]}),
    "confusion": (1, {}, {"labels": [0, 1], "pixels": [[1]]}, {"labels": [0], "pixels": [["a"]]}),
}


@pytest.mark.parametrize(("key", "value"), [(key, v) for key in WRONG for v in WRONG[key]])
def test_an_evaluation_of_other_values_exits_with_3(report, runs, key, value):
    evaluated(runs[0], 0.0)
    path = runs[0] / "report" / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    code, out, err = report(*runs)
    assert (code, out) == (3, "")
    assert "evaluation.json: is not an evaluation; remove it" in err


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", "[" * 10**5])
def test_a_file_that_is_not_an_evaluation_exits_with_3(report, runs, text):
    evaluated(runs[0], 0.0)
    (runs[0] / "report" / "evaluation.json").write_text(text)
    code, out, err = report(*runs)
    assert (code, out) == (3, "")
    assert "evaluation.json: is not an evaluation; remove it" in err
