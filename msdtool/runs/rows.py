"""The rows of metrics.jsonl: one JSON object per event, and what is done with damaged ones."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msdtool.plain_data import fits, shown
from msdtool.runs.training_progress import TrainingProgress

Row = dict[str, Any]

REQUIRED = ("train_loss", "seconds")
"""Numbers that every row of an epoch has; others may be null."""
LABEL_METRICS = ("iou", "dice", "precision", "recall")
"""What a row of a segmentation has of each label."""


def parse_row(line: bytes) -> Row:
    """Return the row that a line holds.

    The row of an epoch has whole numbers "epoch" and "step", from 1, and numbers for all else; null
    stands for one that is not finite. The values of `LABEL_METRICS` are such numbers by label, and
    "improved" is true or false.

    Raises:
        ValueError: it is not a JSON object, or is the row of an epoch with other values.
    """
    try:
        row = json.loads(line, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise ValueError("is not a JSON object")
    if row.get("event") == "epoch":
        _place(row)
        if not row.keys() >= set(REQUIRED):
            raise ValueError(f"lacks {' or '.join(REQUIRED)}")
        for key, value in row.items():
            if key != "event" and not _is_valid(key, value):
                raise ValueError(f"has no number {key}: {shown(value)}")
    return row


def best_row(rows: Sequence[Row]) -> Row | None:
    """Return the row of the best epoch: the last one that improved on all before it.

    Rows of earlier versions do not tell; of these, it is that of the smallest loss.
    """
    improved = [row for row in rows if row.get("improved")]
    if improved:
        return improved[-1]
    validated = [row for row in rows if row.get("validation_loss") is not None]
    key = "validation_loss" if validated else "train_loss"
    return min(validated or rows, key=lambda row: row[key], default=None)


def _is_valid(key: str, value: Any) -> bool:
    if key == "improved":
        return isinstance(value, bool)
    if value is None:
        return key not in REQUIRED
    if key in LABEL_METRICS:
        return isinstance(value, dict) and all(
            item is None or _is_number(item) for item in value.values()
        )
    return _is_number(value)


def _is_number(value: Any) -> bool:
    return fits(value, float) and math.isfinite(value)


def _place(row: Row) -> tuple[int, int]:
    """The step and the epoch of a row; raise ValueError if it has none."""
    for key in ("step", "epoch"):
        if not fits(row.get(key), int) or row[key] < 1:
            raise ValueError(f"has no {key}")
    return row["step"], row["epoch"]


@dataclass(frozen=True)
class Repair:
    """What remains of the rows of a run that resumes.

    Attributes:
        content: of the file.
        left_out: lines that cannot be used, counted from 1; nothing else is lost.
        missing: epochs before the checkpoint that have no row.
    """

    content: bytes
    left_out: list[int]
    missing: list[int]


def past_rows(content: bytes, progress: TrainingProgress, metrics_bytes: int) -> Repair:
    """Return the rows up to a checkpoint: later events are about to happen again.

    Args:
        content: of metrics.jsonl.
        progress: the checkpoint's.
        metrics_bytes: length of the file when the checkpoint was written.
    """
    recorded = content[:metrics_bytes]
    if len(recorded) == metrics_bytes and _is_in_order(recorded, progress):
        return Repair(recorded, [], [])
    rows, left_out = {}, []
    lines = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            step, epoch = _place(parse_row(line))
        except ValueError:
            left_out.append(number)
            continue
        is_counted = epoch <= progress.epoch or bool(progress.finished)
        if step < progress.step or (step == progress.step and is_counted):
            rows[step] = (epoch, line)  # of two rows, the later one
    found = {epoch for epoch, _ in rows.values()}
    missing = [epoch for epoch in range(1, progress.epoch + 1) if epoch not in found]
    kept = b"".join(line + b"\n" for _, (_, line) in sorted(rows.items()))
    return Repair(kept, left_out, missing)


def _is_in_order(content: bytes, progress: TrainingProgress) -> bool:
    """Whether all rows can be used, and each is of a later step than the one before."""
    *lines, rest = content.split(b"\n")
    try:
        steps = [_place(parse_row(line))[0] for line in lines]
    except ValueError:
        return False
    return not rest and steps == sorted(set(steps)) and all(s <= progress.step for s in steps)
