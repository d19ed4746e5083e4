"""Work in strips that was stopped goes on, and ends with what it would have."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msdtool import ops
from msdtool.ops import kept
from msdtool.ops.streaming import RESERVED_BYTES
from tests.ops.formula import Problem, make_problem

EXTRA = 60_000


class Stop(Exception):  # noqa: N818
    pass


class Input:
    """An image that counts how often it is read."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.reads = array, array.shape, 0

    def __getitem__(self, key: Any) -> Any:
        self.reads += 1
        return self.array[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        raise AssertionError


@pytest.fixture
def problem(monkeypatch: pytest.MonkeyPatch) -> Problem:
    monkeypatch.setattr(kept, "SECONDS_BETWEEN_NOTES", 0.0)
    return make_problem((200, 30), 9, c_in=2, dilations=(1, 2, 3))


def run(
    problem: Problem,
    folder: Path,
    stop_after: int | None = None,
    extra: int = EXTRA,
    output: np.ndarray | None = None,
    **options: Any,
) -> tuple[np.ndarray, int, int]:
    """The output, how many strips were done, and how often the input was read."""
    image, *parameters = problem.module_arguments()
    input = Input(image[0].detach().numpy())
    output = np.full((1, 200, 30), np.nan) if output is None else output
    strips = 0

    def tick(_done: float) -> None:
        nonlocal strips
        strips += 1
        if strips == stop_after:
            raise Stop

    ops.msd_module_streamed(
        input, *parameters, output=output, memory_bytes=RESERVED_BYTES + extra, keep=folder,
        tick=tick, **options,
    )  # fmt: skip
    return output, strips, input.reads


def stopped(problem: Problem, folder: Path, strips: int, **options: Any) -> None:
    with pytest.raises(Stop):
        run(problem, folder, strips, **options)


def expected(problem: Problem) -> np.ndarray:
    return ops.msd_module(*problem.module_arguments())[0].detach().numpy()


def test_a_stop_after_any_strip_is_made_up_for(problem: Problem, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    output, total, _ = run(problem, folder)
    np.testing.assert_allclose(output, expected(problem), rtol=1e-10, atol=1e-10)
    assert not folder.exists()
    stopped(problem, folder, total - 1)
    _, of_last_pass, _ = run(problem, folder)
    assert 1 < of_last_pass < total - 10
    for strips in (*range(1, total, 5), total - 1):
        stopped(problem, folder, strips)
        output, rest, reads = run(problem, folder)
        np.testing.assert_allclose(output, expected(problem), rtol=1e-10, atol=1e-10)
        assert rest == max(total - strips, of_last_pass)
        assert reads == 0 and not folder.exists()


@pytest.mark.parametrize("extra", [EXTRA, 300_000])  # several passes, and one
def test_output_that_stays_is_not_written_again(
    problem: Problem, tmp_path: Path, extra: int
) -> None:
    folder = tmp_path / "work"
    saved: list[np.ndarray] = []
    output = np.full((1, 200, 30), np.nan)
    options = {"extra": extra, "save_output": lambda: saved.append(output.copy())}
    _, total, _ = run(problem, folder, output=output.copy(), **options)
    stopped(problem, folder, total - 2, output=output, **options)
    kept_rows = saved[-1].copy()
    assert np.isfinite(kept_rows).any() and not np.isfinite(kept_rows).all()
    found, rest, reads = run(problem, folder, output=kept_rows, has_output=True, **options)
    assert rest == 2 and reads == 0
    np.testing.assert_allclose(found, expected(problem), rtol=1e-10, atol=1e-10)


def test_output_that_is_gone_is_written_again(problem: Problem, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    options = {"extra": 300_000, "save_output": lambda: None}
    _, total, _ = run(problem, folder, **options)
    stopped(problem, folder, total - 1, **options)
    stopped(problem, folder, 1, **options)
    output, rest, reads = run(problem, folder, **options)
    assert rest == total and reads == 0
    np.testing.assert_allclose(output, expected(problem), rtol=1e-10, atol=1e-10)


def test_a_folder_in_use_is_refused(problem: Problem, tmp_path: Path) -> None:
    with kept.kept_folder(tmp_path / "work"):
        with pytest.raises(OSError, match="another process is at the same work"):
            run(problem, tmp_path / "work")
        assert (tmp_path / "work").exists()


def test_files_of_others_are_left_alone(problem: Problem, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    run(problem, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


@pytest.mark.parametrize("extra", [45_000, 90_000, 10**7])
def test_work_goes_on_with_another_amount_of_memory(
    problem: Problem, tmp_path: Path, extra: int
) -> None:
    stopped(problem, tmp_path / "work", 8)
    output, *_ = run(problem, tmp_path / "work", extra=extra)
    np.testing.assert_allclose(output, expected(problem), rtol=1e-10, atol=1e-10)


def test_stopped_again_and_again(problem: Problem, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    for _ in range(3):
        stopped(problem, folder, 3)
    output, *_ = run(problem, folder)
    np.testing.assert_allclose(output, expected(problem), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("damage", ["channels", "short", "text", "number"])
def test_what_is_damaged_is_done_anew(problem: Problem, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "work"
    stopped(problem, folder, 8)
    noted = folder / "progress.json"
    if damage == "channels":
        (folder / "channels").unlink()
    elif damage == "short":
        (folder / "channels").write_bytes(b"0")
    elif damage == "text":
        noted.write_text("{")
    else:
        noted.write_text(json.dumps({**json.loads(noted.read_text()), "stop": "5"}))
    output, _, reads = run(problem, folder)
    assert reads > 0
    np.testing.assert_allclose(output, expected(problem), rtol=1e-10, atol=1e-10)


def test_what_was_never_noted_leaves_nothing(
    problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "SECONDS_BETWEEN_NOTES", 1e9)
    stopped(problem, tmp_path / "work", 1)
    assert list(tmp_path.iterdir()) == []


def test_channels_in_memory_cannot_be_kept(problem: Problem, tmp_path: Path) -> None:
    image, *parameters = problem.module_arguments()
    pixels = image[0].detach().numpy()
    with pytest.raises(ValueError, match="keep is given, which needs buffer 'disk', not 'host'"):
        ops.msd_module_streamed(
            pixels, *parameters, output=np.empty((1, 200, 30)), memory_bytes=10**9, buffer="host",
            keep=tmp_path,
        )  # fmt: skip
