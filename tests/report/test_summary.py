import json

import pytest

from msdtool.errors import ModelFileError
from msdtool.report.summary import read_runs, summarise

ROWS = [
    {"event": "epoch", "epoch": 1, "step": 4, "train_loss": 0.9, "validation_loss": 0.8,
     "psnr": 20.0, "seconds": 1.0},
    {"event": "epoch", "epoch": 2, "step": 8, "train_loss": 0.5, "validation_loss": 0.6,
     "psnr": 22.0, "seconds": 2.0},
    {"event": "epoch", "epoch": 3, "step": 12, "train_loss": 0.4, "validation_loss": 0.7,
     "psnr": 21.0, "seconds": 3.0},
]  # fmt: skip


def test_the_best_epoch_is_the_one_with_the_lowest_validation_loss():
    assert summarise(ROWS) == {
        "epochs": 3,
        "best_epoch": 2,
        "train_loss": 0.5,
        "validation_loss": 0.6,
        "psnr": 22.0,
        "seconds": 3.0,
    }


def test_rows_that_tell_what_improved_are_believed():
    rows = [{**row, "improved": row["epoch"] in (1, 3), "frc": 0.25} for row in ROWS]
    assert (summarise(rows)["best_epoch"], summarise(rows)["frc"]) == (3, 0.25)


def test_without_validation_the_training_loss_decides():
    rows = [{**row, "validation_loss": None} for row in ROWS]
    assert summarise(rows)["best_epoch"] == 3


def test_epochs_that_were_not_validated_are_not_the_best():
    rows = [*ROWS, {**ROWS[2], "epoch": 4, "validation_loss": None, "train_loss": 0.1}]
    summary = summarise(rows)
    assert (summary["epochs"], summary["best_epoch"]) == (4, 2)


def test_a_folder_without_epochs_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"empty: no finished epoch; expected a run"):
        read_runs([tmp_path / "empty"])


def test_rows_of_other_events_are_left_out(tmp_path):
    lines = [json.dumps(row) for row in ({"event": "note"}, ROWS[0])]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert read_runs([tmp_path]) == {str(tmp_path): [ROWS[0]]}
