"""Work in strips that was stopped is resumed, and ends with what it would have."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msdtool import ops
from msdtool.errors import DoesNotFit
from msdtool.lock import LOCK_NAME, InUseError, Lock
from msdtool.ops.out_of_core import resuming
from msdtool.ops.out_of_core.module import RESERVED_BYTES
from msdtool.ops.out_of_core.resuming import Resume, State
from tests.ops.formula import Problem, make_problem

EXTRA = 60_000
ONE_PASS = 300_000
SIZE = (1, 200, 30)


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


@dataclass
class Caller:
    """Keeps the output and the state of work that is stopped, as a user of strips does.

    Attributes:
        folder: of the channels.
        output: as it is on disk, that is, when the state was saved.
        state: the one that was saved last.
        live: the output as it is written.
    """

    folder: Path
    output: np.ndarray = field(default_factory=lambda: np.full(SIZE, np.nan))
    state: State | None = None
    live: np.ndarray = field(default_factory=lambda: np.full(SIZE, np.nan))

    def save(self, state: State) -> None:
        self.output, self.state = self.live.copy(), state

    def resume(self) -> Resume:
        self.live = self.output.copy()
        return Resume(self.folder, self.save, self.state)


@pytest.fixture
def problem(monkeypatch: pytest.MonkeyPatch) -> Problem:
    monkeypatch.setattr(resuming, "SECONDS_BETWEEN_SAVES", 0.0)
    return make_problem(SIZE[1:], 9, c_in=2, dilations=(1, 2, 3))


@pytest.fixture
def caller(tmp_path: Path) -> Caller:
    return Caller(tmp_path / "work")


def run(
    problem: Problem, caller: Caller, stop_after: int | None = None, extra: int = EXTRA
) -> tuple[np.ndarray, int, int]:
    """The output, how many strips were computed, and how often the input was read."""
    image, *parameters = problem.module_arguments()
    input = Input(image[0].detach().numpy())
    strips = 0

    def progress(_done: float, _total: float, _note: str = "") -> None:
        nonlocal strips
        strips += 1
        if strips == stop_after:
            raise Stop

    resume = caller.resume()
    ops.msd_module_streamed(
        input, *parameters, output=caller.live, memory_bytes=RESERVED_BYTES + extra,
        resume=resume, progress=progress,
    )  # fmt: skip
    return caller.live, strips, input.reads


def stopped(problem: Problem, caller: Caller, strips: int, extra: int = EXTRA) -> None:
    with pytest.raises(Stop):
        run(problem, caller, strips, extra)


def check(problem: Problem, output: np.ndarray) -> None:
    expected = ops.msd_module(*problem.module_arguments())[0].detach().numpy()
    np.testing.assert_allclose(output, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("extra", [EXTRA, ONE_PASS])  # several passes, and one
def test_work_is_resumed_after_any_strip(problem: Problem, tmp_path: Path, extra: int) -> None:
    whole = Caller(tmp_path / "whole")
    output, total, _ = run(problem, whole, extra=extra)
    check(problem, output)
    assert not whole.folder.exists() and total >= 4
    for strips in {*range(1, total, 7), total - 1}:
        caller = Caller(tmp_path / "work")
        stopped(problem, caller, strips, extra)
        resumed, rest, reads = run(problem, caller, extra=extra)
        assert np.array_equal(resumed, output)  # to the bit
        assert rest == total - strips
        assert reads == 0 and not caller.folder.exists()


def test_a_state_belongs_to_one_file_of_channels(problem: Problem, tmp_path: Path) -> None:
    """As where the folder lies on a machine's own disk, and the state on one that all see."""
    here, there = Caller(tmp_path / "here"), Caller(tmp_path / "there")
    stopped(problem, here, 3)
    stopped(problem, there, 12)
    output, _, reads = run(problem, Caller(here.folder, there.output, there.state))
    assert reads > 0
    check(problem, output)


def test_a_folder_in_use_is_refused(problem: Problem, caller: Caller) -> None:
    lock = Lock(caller.folder / LOCK_NAME)
    with pytest.raises(InUseError):
        run(problem, caller)
    assert caller.folder.exists()
    lock.release()


@pytest.mark.parametrize("number", [37, 95])  # ENOLCK, EOPNOTSUPP
def test_a_file_system_without_locks_is_used(
    problem: Problem, caller: Caller, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def unsupported(*_: Any) -> None:
        raise OSError(number, "unsupported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    stopped(problem, caller, 5)
    check(problem, run(problem, caller)[0])
    assert not caller.folder.exists()


def test_files_of_others_are_left_alone(problem: Problem, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    run(problem, Caller(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


@pytest.mark.parametrize("extra", [45_000, 90_000, 10**7])
@pytest.mark.parametrize("strips", [8, 30])
def test_work_is_resumed_with_another_amount_of_memory(
    problem: Problem, caller: Caller, strips: int, extra: int
) -> None:
    stopped(problem, caller, strips)
    output, *_ = run(problem, caller, extra=extra)
    check(problem, output)


def test_too_little_memory_loses_nothing(problem: Problem, caller: Caller) -> None:
    stopped(problem, caller, 8)
    with pytest.raises(DoesNotFit, match="memory limit"):
        run(problem, caller, extra=100)
    output, _, reads = run(problem, caller)
    assert reads == 0
    check(problem, output)


def test_work_may_be_stopped_again_and_again(problem: Problem, caller: Caller) -> None:
    for _ in range(3):
        stopped(problem, caller, 3)
    check(problem, run(problem, caller)[0])


def change(**values: Any) -> Callable[[Caller], None]:
    def damage(caller: Caller) -> None:
        caller.state = {**(caller.state or {}), **values}

    return damage


def no_state(caller: Caller) -> None:
    caller.state = None


def no_channels(caller: Caller) -> None:
    for file in caller.folder.iterdir():
        file.unlink()


def short_channels(caller: Caller) -> None:
    for file in caller.folder.iterdir():
        file.write_bytes(b"0")


@pytest.mark.parametrize(
    "damage",
    [no_state, no_channels, short_channels, change(stop="5"), change(size=1),
     change(channels="../channels-0"), change(channels=7)],
)  # fmt: skip
def test_damaged_work_starts_from_scratch(
    problem: Problem, caller: Caller, damage: Callable[[Caller], None]
) -> None:
    stopped(problem, caller, 8)
    damage(caller)
    output, _, reads = run(problem, caller)
    assert reads > 0 and not caller.folder.exists()
    check(problem, output)


def test_work_that_was_never_saved_leaves_nothing(
    problem: Problem, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resuming, "SECONDS_BETWEEN_SAVES", 1e9)
    stopped(problem, caller, 1)
    assert caller.state is None and not caller.folder.exists()


def test_a_state_that_cannot_be_saved_ends_the_work(problem: Problem, caller: Caller) -> None:
    def fail(_state: State) -> None:
        raise OSError("the disk is full")

    caller.save = fail  # type: ignore[method-assign]
    with pytest.raises(OSError, match="the disk is full"):
        run(problem, caller)
    assert not caller.folder.exists()


def test_channels_in_memory_cannot_be_kept(problem: Problem, caller: Caller) -> None:
    image, *parameters = problem.module_arguments()
    pixels = image[0].detach().numpy()
    with pytest.raises(ValueError, match="resume is given, which needs buffer 'disk', not 'host'"):
        ops.msd_module_streamed(
            pixels, *parameters, output=np.empty(SIZE), memory_bytes=10**9, buffer="host",
            resume=caller.resume(),
        )  # fmt: skip
