"""Results of runs, side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msdtool.errors import ModelFileError
from msdtool.runs.rows import best_row
from msdtool.runs.rundir import RunDirectory

COLUMNS = ("psnr", "ssim", "mae", "accuracy", "mean_iou", "mean_dice", "coverage", "frc", "edges")


def read_runs(paths: Sequence[Path]) -> dict[str, list[dict[str, Any]]]:
    """Return the epoch rows of each run directory, by its path.

    Raises:
        ModelFileError: a path is not a run directory, or the run has not finished an epoch.
    """
    runs = {}
    for path in paths:
        rows = [row for row in RunDirectory(path).read_rows() if row.get("event") == "epoch"]
        if not rows:
            raise ModelFileError(
                f"{path}: no finished epoch; expected a run directory with metrics.jsonl"
            )
        runs[str(path)] = rows
    return runs


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a run's best epoch, see `msdtool.runs.rows.best_row`, and its metrics then."""
    best = best_row(rows)
    assert best is not None
    metrics = {name: best[name] for name in COLUMNS if best.get(name) is not None}
    return {
        "epochs": rows[-1]["epoch"],
        "best_epoch": best["epoch"],
        "train_loss": best["train_loss"],
        "validation_loss": best.get("validation_loss"),
        **metrics,
        "seconds": rows[-1]["seconds"],
    }
