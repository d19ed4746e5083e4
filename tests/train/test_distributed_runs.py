"""Several processes train like one, and stop and fail together."""

import pytest
import torch

from msdtool.config import load_config
from msdtool.errors import Error, FailedElsewhere
from msdtool.runs.checkpoint import load_checkpoint
from msdtool.runs.rundir import RunDirectory
from msdtool.train.events import StepDone
from msdtool.train.prepare import prepare_run
from tests.helpers import LABELS, write_experiment, write_labelled_pairs, write_noisy_pairs
from tests.train.running import check_same, finish, open_run, plain_rows


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    """Shares of unequal size, also in validation; masks are tested above."""
    folder = tmp_path_factory.mktemp("regression")
    data = {
        "train": write_noisy_pairs(folder / "train", 7, (14, 17)),
        "validation": write_noisy_pairs(folder / "validation", 3, (12, 13), seed=1),
        "crop": 12,
        "augment": True,
    }
    training = {"epochs": 3, "batch_size": 3, "schedule": "plateau", "learning_rate": 0.01}
    sections = {"data": data, "training": training, "run": {"previews": True}}
    return write_experiment(folder / "config.yaml", sections)


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmentation")
    data = {
        "train": write_labelled_pairs(folder / "train", 5),
        "validation": write_labelled_pairs(folder / "validation", 3, seed=1),
        "labels": LABELS,
    }
    training = {"batch_size": 2, "accumulate": 2, "class_weights": "balanced"}
    sections = {"task": "segmentation", "data": data, "training": training}
    return write_experiment(folder / "config.yaml", sections)


def train_run(processes, config, overrides, stop_after=None, resume=False):
    """Train, or stop as if a signal had come to the last process; return what it says."""
    steps = 0

    def should_stop():
        return stop_after is not None and processes.rank == 1 and steps >= stop_after

    try:
        run = prepare_run(
            load_config(config, overrides),
            resume=resume,
            processes=processes,
            should_stop=should_stop,
        )
        for event in run.events():
            steps += isinstance(event, StepDone)
    except Error as error:
        return type(error).__name__, error.message, error.exit_code
    return run.learner.progress.step


def numbers(row):
    """The numbers of an epoch's row, those of single labels included."""
    flat = {k: v for k, v in row.items() if not isinstance(v, (dict, str))}
    per_label = {(k, i): x for k, v in row.items() if isinstance(v, dict) for i, x in v.items()}
    return flat | per_label


@pytest.fixture(scope="module")
def self_supervised(tmp_path_factory):
    folder = tmp_path_factory.mktemp("self_supervised")
    splits = [write_noisy_pairs(folder / f"split_{k}", 4)["input"] for k in range(2)]
    data = {"train": {"splits": splits}, "validation": {"fraction": 0.7}}
    training = {"batch_size": 2, "select": "frc", "interval": 0.8}
    return write_experiment(folder / "config.yaml", {"data": data, "training": training})


@pytest.mark.parametrize("kind", ["regression", "segmentation", "self_supervised"])
def test_two_processes_train_like_one(team, kind, request, tmp_path):
    config = request.getfixturevalue(kind)
    expected = finish(open_run(config, f"run.directory={tmp_path}/one"))
    team(train_run, config, [f"run.directory={tmp_path}/two"])
    found = RunDirectory(tmp_path / "two")
    assert sorted(p.name for p in found.path.rglob("*")) == sorted(
        p.name for p in expected.path.rglob("*")
    )
    for row, expected_row in zip(plain_rows(found), plain_rows(expected), strict=True):
        assert numbers(row) == pytest.approx(numbers(expected_row), rel=1e-4)
    model, expected_model = (load_checkpoint(d.last).model for d in (found, expected))
    for key, value in expected_model.normalisation.to_dict().items():
        assert model.normalisation.to_dict()[key] == pytest.approx(value, rel=1e-14)
    for key, value in expected_model.state.items():
        torch.testing.assert_close(model.state[key], value, rtol=1e-3, atol=1e-5)


def test_two_processes_start_from_a_network_and_keep_what_is_frozen(team, regression, tmp_path):
    first = finish(open_run(regression, f"run.directory={tmp_path}/first")).best
    options = [f"training.initial={first}", "training.freeze=[{block: 2}]", "training.average=0.5"]
    options += ["training.optimizer=adamw", "training.weight_decay=0.1", "training.seed=5"]
    one = finish(open_run(regression, *options, f"run.directory={tmp_path}/one"))
    team(train_run, regression, [*options, f"run.directory={tmp_path}/two"])
    paths = (one.last, RunDirectory(tmp_path / "two").last, first)
    expected, found, initial = (load_checkpoint(path).model.state for path in paths)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-5)
    for state in (found, expected):
        for layer in range(3):
            weight = f"msd.msd_block.weight{layer}"
            assert torch.equal(state[weight], initial[weight]) == (layer < 2)
        bias, before = state["msd.msd_block.bias"], initial["msd.msd_block.bias"]
        assert (bias == before).tolist() == [True, True, *[False] * (len(bias) - 2)]


def test_a_stop_on_one_process_stops_all_at_one_step_and_resume_ends_alike(
    team, regression, tmp_path
):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert team(train_run, regression, [f"run.directory={whole}"]) == [9, 9]
    for steps in (2, 0, 1):  # at step 3, in the validation after it, at step 5
        main, other = team(train_run, regression, [f"run.directory={parts}"], steps, True)
        assert main[0] == "Stopped"
        assert other == ("FailedElsewhere", FailedElsewhere(75).message, 75)
    assert "stopped at step 5, epoch 2; checkpoint saved" in main[1]
    team(train_run, regression, [f"run.directory={parts}"], None, True)
    check_same(RunDirectory(parts), RunDirectory(whole))


def test_three_processes_round_alike_after_a_resume(team, regression, tmp_path):
    """The order in which three numbers are added up matters; see _mean_in_fixed_order."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = ["network.depth=20", "training.learning_rate=0.01"]
    for directory, stop_after in ((whole, None), (parts, 2), (parts, 1), (parts, None)):
        overrides = [f"run.directory={directory}", *options]
        team(train_run, regression, overrides, stop_after, True, size=3)
    check_same(RunDirectory(parts), RunDirectory(whole))


def test_a_run_of_two_processes_may_go_on_with_one(team, regression, tmp_path):
    overrides = [f"run.directory={tmp_path}/run"]
    team(train_run, regression, overrides, 2)
    run = open_run(regression, *overrides, resume=True)
    assert run.learner.progress.step == 3
    finish(run)
    assert run.learner.progress.finished == "all 3 epochs are done"


def test_a_file_that_only_one_process_reads_stops_both(team, tmp_path):
    data = {"train": write_noisy_pairs(tmp_path / "train", 4)}
    config = write_experiment(
        tmp_path / "config.yaml", {"data": data, "training": {"batch_size": 2}}
    )
    bad = tmp_path / "train" / "noisy" / "image_001.tif"
    bad.write_bytes(b"junk")
    main, other = team(train_run, config, [])
    assert main == ("FailedElsewhere", FailedElsewhere(3).message, 3)
    assert (other[0], other[2]) == ("InputError", 3)
    assert other[1].startswith(f"{bad}: cannot be read as an image")


def train_until_trouble(processes, config, spoilt, disk_is_full):
    """Train; before the first step a file is spoilt, or the disk fills up."""
    run = prepare_run(load_config(config), processes=processes)
    if spoilt is not None:
        processes.on_main(lambda: spoilt.write_bytes(b"junk"))
    events = run.events()
    next(events)
    if disk_is_full and processes.is_main:
        run.record.save = refuse_to_save
    try:
        for _ in events:
            pass
    except Error as error:
        return type(error).__name__, error.message, error.exit_code
    return "no error"


def refuse_to_save(*, best):
    raise Error("no space left")


@pytest.mark.parametrize("kind", ["train", "validation"])
def test_a_file_that_goes_bad_ends_both_with_one_error(team, tmp_path, kind):
    """Validation files are read for the first time after an epoch."""
    data = {name: write_noisy_pairs(tmp_path / name, 4) for name in ("train", "validation")}
    config = write_experiment(
        tmp_path / "config.yaml", {"data": data, "training": {"batch_size": 2, "epochs": 2}}
    )
    bad = tmp_path / kind / "noisy" / "image_001.tif"
    answers = team(train_until_trouble, config, bad, False)
    (mine,) = [answer for answer in answers if answer[0] == "InputError"]
    assert mine[1].startswith(f"{bad}: cannot be read as an image")
    (other,) = [answer for answer in answers if answer is not mine]
    assert other == ("FailedElsewhere", FailedElsewhere(3).message, 3)


@pytest.mark.parametrize("option", [{}, {"checkpoint_every": 1e-9}])
def test_a_checkpoint_that_cannot_be_written_ends_both_with_one_error(team, tmp_path, option):
    data = {"train": write_noisy_pairs(tmp_path / "train", 4)}
    config = write_experiment(
        tmp_path / "config.yaml", {"data": data, "training": {"batch_size": 2, **option}}
    )
    answers = team(train_until_trouble, config, None, True)
    assert answers == [
        ("Error", "no space left", 1),
        ("FailedElsewhere", FailedElsewhere(1).message, 1),
    ]


def test_a_directory_that_holds_a_run_is_refused_once(team, regression, regression_run):
    overrides = [f"run.directory={regression_run}"]
    main, other = team(train_run, regression, overrides)
    assert main[0] == "RunDirectoryError"
    assert "already holds a run" in main[1]
    assert other[0] == "FailedElsewhere"


def test_a_batch_must_have_an_image_for_each_process(team, regression):
    main, other = team(train_run, regression, ["training.batch_size=1"])
    assert main == (
        "ConfigError",
        "training.batch_size: 1 cannot be shared by 2 processes; it counts the images of all "
        "processes: set 2 or more, or start fewer processes",
        2,
    )
    assert other[0] == "FailedElsewhere"


def test_time_that_is_up_is_up_for_all(team, regression, tmp_path):
    overrides = [f"run.directory={tmp_path}/run", "training.max_time=0.001", "training.epochs=99"]
    assert team(train_run, regression, overrides) == [1, 1]
    progress = load_checkpoint(RunDirectory(tmp_path / "run").last).progress
    assert progress.finished == "the time limit of 0.001 s is reached"
