import json
import sys

import pytest

from msdtool.cli import main


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
def runs(tmp_path):
    for name, losses in (("wide", (0.5, 0.25)), ("deep", (0.4, 0.125))):
        (tmp_path / name).mkdir()
        rows = [
            {"event": "epoch", "epoch": i, "step": i, "train_loss": loss, "validation_loss": loss,
             "ssim": 1 - loss, "seconds": float(i)}
            for i, loss in enumerate(losses, 1)
        ]  # fmt: skip
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / name / "metrics.jsonl").write_text(text)
    return [tmp_path / "wide", tmp_path / "deep"]


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


def test_the_figure_is_a_png(report, runs, tmp_path):
    figure = tmp_path / "curves.png"
    assert report(*runs, "--figure", figure)[0] == 0
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_is_not_a_run_exits_with_3(report, tmp_path):
    code, out, err = report(tmp_path)
    assert (code, out) == (3, "")
    assert f"{tmp_path}: no finished epoch" in err
