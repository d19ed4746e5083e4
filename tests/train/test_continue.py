"""Resuming a run: stopped or vanished at any event, extended, changed, finished."""

import multiprocessing
import os

import pytest

from msdtool.errors import InputError, RunDirectoryError, Stopped, TrainingError
from msdtool.runs.checkpoint import load_checkpoint, save_checkpoint
from tests.train.running import check_same, finish, open_run


@pytest.fixture
def undisturbed(config, tmp_path):
    return finish(open_run(config, f"run.directory={tmp_path}/undisturbed"))


NUM_EVENTS = 10  # per epoch two updates, two validated images and the epoch's end


@pytest.fixture
def num_asked(config, tmp_path):
    """How often a run that is prepared asks whether to stop, at images that it reads."""
    asked = []
    place = f"run.directory={tmp_path}/prepared"
    run = open_run(config, place, should_stop=lambda: bool(asked.append(None)))
    run.directory.release()
    return len(asked)


def test_a_run_stopped_at_any_event_ends_with_the_same_bits(
    config, tmp_path, undisturbed, num_asked
):
    for stop in range(NUM_EVENTS - 1):
        place = f"run.directory={tmp_path}/stopped{stop}"
        asked = iter([False] * (num_asked + stop))
        run = open_run(config, place, should_stop=lambda asked=asked: next(asked, True))
        with pytest.raises(Stopped, match=r"checkpoint saved, resume to continue") as stopped:
            finish(run)
        assert stopped.value.hint_key == "resume"
        assert stopped.value.exit_code == 75
        progress = load_checkpoint(run.directory.last).progress
        assert progress == run.learner.progress
        check_same(finish(open_run(config, place, resume=True)), undisturbed)


@pytest.mark.parametrize(
    ("checkpoint_every", "counts"), [("1.0e-9", range(NUM_EVENTS + 1)), ("1d", (2, 8))]
)
def test_a_run_that_vanishes_at_any_event_ends_with_the_same_bits(
    config, tmp_path, undisturbed, checkpoint_every, counts
):
    for count in counts:
        options = [
            f"run.directory={tmp_path}/vanished{count}",
            f"training.checkpoint_every={checkpoint_every}",
        ]
        events = open_run(config, *options).events()
        for _ in range(count):
            next(events)
        events.close()
        check_same(finish(open_run(config, *options, resume=True)), undisturbed)


class Vanished(BaseException):
    """Stands for a kill."""


def test_a_run_that_vanishes_at_any_checkpoint_ends_with_the_same_bits(
    config, tmp_path, undisturbed, monkeypatch
):
    """An epoch's row is there already then, and the best checkpoint may be ahead of the last."""
    for count in range(5):
        place = f"run.directory={tmp_path}/unsaved{count}"
        saved = []

        def save_some(path, checkpoint, saved=saved, count=count):
            if len(saved) == count:
                raise Vanished
            saved.append(path.name)
            save_checkpoint(path, checkpoint)

        monkeypatch.setattr("msdtool.train.record.save_checkpoint", save_some)
        with pytest.raises(Vanished):
            finish(open_run(config, place))
        monkeypatch.setattr("msdtool.train.record.save_checkpoint", save_checkpoint)
        assert saved == ["last.pt", "best.pt", "last.pt", "best.pt"][:count]
        check_same(finish(open_run(config, place, resume=True)), undisturbed)


def test_a_stop_that_comes_with_the_last_event_finds_the_run_finished(config, num_asked):
    asked = iter([False] * (num_asked + NUM_EVENTS - 1))
    directory = finish(open_run(config, should_stop=lambda: next(asked, True)))
    assert "finished: all 2 epochs are done" in directory.log_file.read_text()


def test_a_stop_before_the_first_step_leaves_nothing(config, tmp_path):
    with pytest.raises(Stopped, match="stopped before the first step"):
        open_run(config, should_stop=lambda: True)
    assert not (tmp_path / "run").exists()
    assert len(finish(open_run(config, resume=True)).read_rows()) == 2


def test_a_run_may_be_extended(config, tmp_path):
    short = finish(open_run(config, "training.schedule=constant"))
    assert len(short.read_rows()) == 2
    options = ("training.schedule=constant", "training.epochs=4")
    longer = finish(open_run(config, *options, resume=True))
    at_once = finish(open_run(config, *options, f"run.directory={tmp_path}/other"))
    check_same(longer, at_once)


def test_a_finished_run_is_left_as_it_is(config):
    directory = finish(open_run(config))
    before = directory.last.read_bytes()
    run = open_run(config, resume=True)
    assert run.learner.progress.finished == "all 2 epochs are done"
    assert list(run.events()) == []
    assert directory.last.read_bytes() == before


def test_a_run_that_is_past_a_lowered_number_of_epochs_is_finished(config):
    steps = open_run(config, "training.epochs=5", "training.schedule=constant").events()
    for _ in range(12):
        next(steps)
    steps.close()
    run = open_run(config, "training.epochs=1", "training.schedule=constant", resume=True)
    assert run.learner.progress.finished == "2 of 1 epochs are done"
    assert list(run.events()) == []


@pytest.mark.parametrize(
    "change",
    ["training.learning_rate=0.5", "network.depth=4", "data.crop=8", "training.seed=7"],
)
def test_a_changed_experiment_is_not_a_continuation(config, change):
    directory = finish(open_run(config))
    before = directory.last.read_bytes(), directory.config.read_bytes()
    with pytest.raises(RunDirectoryError) as error:
        open_run(config, change, resume=True)
    assert f"started with other values of {change.split('=')[0]};" in error.value.message
    assert error.value.message.endswith("revert the change, or choose another run.directory")
    assert error.value.hint_key == "run.directory"
    assert (directory.last.read_bytes(), directory.config.read_bytes()) == before


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("train", "started on 5 training images, now 6 were found"),
        ("validation", "started on 2 validation images, now 3 were found"),
    ],
)
def test_more_files_are_another_run(config, tmp_path, part, message):
    finish(open_run(config))
    for folder in ("noisy", "clean"):
        image = tmp_path / part / folder / "image_000.tif"
        image.with_name("image_900.tif").write_bytes(image.read_bytes())
    with pytest.raises(InputError, match=message):
        open_run(config, resume=True)


def test_overwriting_starts_from_scratch(config):
    finish(open_run(config, "training.epochs=3"))
    assert len(finish(open_run(config, overwrite=True)).read_rows()) == 2


def test_workers_and_the_cache_change_nothing(config, tmp_path, undisturbed):
    options = ("data.workers=1", "data.cache=true", f"run.directory={tmp_path}/other")
    check_same(finish(open_run(config, *options)), undisturbed)


def test_a_reading_process_that_is_killed_is_named_and_the_run_goes_on(config, undisturbed):
    events = open_run(config, "data.workers=1", "training.checkpoint_every=1.0e-9").events()
    next(events)
    for worker in multiprocessing.active_children():
        worker.kill()
        worker.join()
    with pytest.raises(TrainingError, match="a process that reads images was killed") as error:
        list(events)
    assert error.value.hint_key == "resume"
    check_same(finish(open_run(config, resume=True)), undisturbed)


@pytest.mark.parametrize("option", ["resume", "overwrite"])
def test_a_run_that_another_process_trains_is_left_alone(config, option):
    events = open_run(config).events()
    next(events)
    with pytest.raises(RunDirectoryError, match=f"process {os.getpid()} on .* is using"):
        open_run(config, **{option: True})
    events.close()
    finish(open_run(config, **{option: True}))
