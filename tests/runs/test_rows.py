"""What remains of a metrics.jsonl that was cut off, edited or damaged when its run resumes."""

import json

import pytest

from msdtool.errors import ModelFileError
from msdtool.runs.rows import parse_row, past_rows
from msdtool.runs.rundir import RunDirectory
from msdtool.runs.training_progress import TrainingProgress


def row(epoch, step=None, **others):
    step = 10 * epoch if step is None else step
    content = {"event": "epoch", "epoch": epoch, "step": step, "train_loss": 0.5, "seconds": 1.0}
    return json.dumps({**content, **others}).encode() + b"\n"


ROWS = b"".join(map(row, (1, 2, 3)))
LENGTH = len(ROWS)
PROGRESS = TrainingProgress(epoch=3, step=30)


def repaired(content, progress=PROGRESS, metrics_bytes=LENGTH):
    found = past_rows(content, progress, metrics_bytes)
    return found.content, found.left_out, found.missing


@pytest.mark.parametrize("later", [b"", row(4), row(4) + row(5), b'{"event": "ep', b"\0" * 99])
def test_what_was_written_after_the_checkpoint_is_dropped(later):
    assert repaired(ROWS + later) == (ROWS, [], [])


# A file, the lines that are left out, the epochs without a row, and the rows that remain.
FILES = {
    "cut off in a row": (ROWS[:-9], [3], [3], (1, 2)),
    "cut off between rows": (row(1), [], [2, 3], (1,)),
    "empty": (b"", [], [1, 2, 3], ()),
    "not JSON": (row(1) + b"oops\n" + row(3), [2], [2], (1, 3)),
    "not UTF-8": (row(1) + b"\xff\xfe\n" + row(3), [2], [2], (1, 3)),
    "zeros": (row(1) + b"\0" * len(row(2)) + row(3), [2], [2, 3], (1,)),
    "a list": (row(1) + b"[1, 2]\n" + row(3), [2], [2], (1, 3)),
    "nested": (row(1) + b"[" * 10**5 + b"\n" + row(3), [2], [2], (1, 3)),
    "other keys": (row(1) + b'{"event": "epoch"}\n' + row(3), [2], [2], (1, 3)),
    "epoch a string": (row(1) + row("2", 20) + row(3), [2], [2], (1, 3)),
    "epoch true": (row(1) + row(True, 20) + row(3), [2], [2], (1, 3)),
    "negative step": (row(1) + row(2, -1) + row(3), [2], [2], (1, 3)),
    "loss NaN": (row(1) + row(2, train_loss=float("nan")) + row(3), [2], [2], (1, 3)),
    "loss infinite": (row(1) + row(2).replace(b"0.5", b"1e999") + row(3), [2], [2], (1, 3)),
    "metric a list": (row(1) + row(2, psnr=[1]) + row(3), [2], [2], (1, 3)),
    "metric a text": (row(1) + row(2, validation_loss="x") + row(3), [2], [2], (1, 3)),
    "metric by label": (row(1) + row(2, psnr={"0": 1.0}) + row(3), [2], [2], (1, 3)),
    "label's a text": (row(1) + row(2, iou={"0": "x"}) + row(3), [2], [2], (1, 3)),
    "labels a number": (row(1) + row(2, iou=0.5) + row(3), [2], [2], (1, 3)),
    "huge seconds": (row(1) + row(2, seconds=10**400) + row(3), [2], [2], (1, 3)),
    "huge step": (row(1) + row(2, 10**400) + row(3), [2], [2], (1, 3)),
    "seconds true": (row(1) + row(2, seconds=True) + row(3), [2], [2], (1, 3)),
    "another event": (row(1) + b'{"event": "x", "step": "y"}\n' + row(3), [2], [2], (1, 3)),
    "out of order": (row(1) + row(3) + row(2), [], [], (1, 2, 3)),
    "twice": (row(1) + row(2) + row(2) + row(3), [], [], (1, 2, 3)),
    "from the future": (row(1) + row(9) + row(2) + row(3), [], [], (1, 2, 3)),
    "other line ends": (ROWS.replace(b"\n", b"\r\n"), [], [], None),
    "blank lines": (ROWS.replace(b"\n", b"\n\n"), [], [], (1, 2, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_what_can_be_used_of_a_damaged_file_stays(name):
    content, left_out, missing, kept = FILES[name]
    expected = content if kept is None else b"".join(map(row, kept))
    if name == "zeros":
        left_out = [2]
    assert repaired(content) == (expected, left_out, missing)


def test_the_row_of_an_epoch_that_is_not_counted_yet_is_written_again():
    """It was killed between the row and the checkpoint, and the file was edited as well."""
    begun = TrainingProgress(epoch=2, step=30)
    assert repaired(ROWS + b"\n", begun, 1)[0] == row(1) + row(2)


def test_the_row_of_an_epoch_that_time_cut_short_stays():
    ended = TrainingProgress(epoch=2, step=25, finished="the time limit is reached")
    content = row(1) + row(2) + row(3, 25)
    assert repaired(content + b"x\n", ended, 1)[0] == content


def test_null_and_values_by_label_are_values():
    line = row(1, ssim=float("nan"), validation_loss=None, iou={"0": 0.5, "1": None})
    assert parse_row(line)["ssim"] is None


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return RunDirectory(tmp_path / "run")


def test_a_damaged_file_is_kept_beside_the_repaired_one(run):
    damaged = row(1) + b"oops\n" + row(3)
    for number in (1, 2):
        run.metrics.write_bytes(damaged)
        told = run.resume_rows(PROGRESS, len(ROWS))
        assert run.metrics.read_bytes() == row(1) + row(3)
        kept = run.path / f"metrics-damaged-{number}.jsonl"
        assert kept.read_bytes() == damaged
        assert told == [
            f"{run.metrics}: is damaged and was repaired; left out: line 2; as it was, it is kept "
            f"as {kept.name}",
            f"{run.metrics}: has no row of epoch 2",
        ]
    run.clear()
    assert not list(run.path.iterdir())


def test_rows_that_are_gone_are_told_and_nothing_is_made_up(run):
    assert run.resume_rows(PROGRESS, len(ROWS)) == [f"{run.metrics}: has no row of epoch 1, 2, 3"]
    assert not list(run.path.iterdir())
    many = TrainingProgress(epoch=1000, step=10_000)
    assert run.resume_rows(many, 10**5)[0].endswith("epoch 1, 2, 3, 4, 5, ... (1000 in all)")


def test_a_whole_file_is_not_touched(run):
    run.metrics.write_bytes(ROWS)
    before = run.metrics.stat().st_mtime_ns
    assert run.resume_rows(PROGRESS, len(ROWS)) == []
    assert run.metrics.stat().st_mtime_ns == before
    run.metrics.write_bytes(ROWS + row(4))
    assert run.resume_rows(PROGRESS, len(ROWS)) == []
    assert run.metrics.read_bytes() == ROWS
    assert [path.name for path in run.path.iterdir()] == ["metrics.jsonl"]


def test_a_line_that_cannot_be_read_is_named(run):
    run.metrics.write_bytes(row(1) + b"oops\n")
    with pytest.raises(ModelFileError) as error:
        run.read_rows()
    assert error.value.message == (
        f"{run.metrics}:2: is damaged: is not a JSON object; remove the line, or restore the file"
    )


def test_a_folder_in_place_of_the_file_is_told(run):
    run.metrics.mkdir()
    with pytest.raises(ModelFileError, match="is a folder"):
        run.read_rows()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seconds": 10**400}, "has no number seconds: 1000000000000000000"),
        ({"step": 10**400}, "has no step"),
        ({"validation_loss": "x"}, "has no number validation_loss: 'x'"),
        ({"psnr": {"0": 1.0}}, "has no number psnr: {'0': 1.0}"),
    ],
)
def test_a_value_of_another_type_is_named(run, change, reason):
    run.metrics.write_bytes(row(1) + row(2, **change))
    with pytest.raises(ModelFileError) as error:
        run.read_rows()
    assert error.value.message.startswith(f"{run.metrics}:2: is damaged: {reason}")
