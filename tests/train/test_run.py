"""A run and its directory; the loop itself is tested in test_loop.py."""

import itertools
import json
import math

import pytest
import torch
import yaml

from msdtool.config import load_config
from msdtool.data.build import build_datasets
from msdtool.errors import ConfigError, TrainingError
from msdtool.nn import graphs
from msdtool.predict import Predictor
from msdtool.runs.checkpoint import load_checkpoint
from msdtool.runs.rundir import RunDirectory
from msdtool.train import opening, prepare
from msdtool.train.build import uses_graphs
from msdtool.train.events import ImageValidated
from msdtool.train.summary import pairing_warnings, summarise
from tests.helpers import (
    LABELS,
    PNG_START,
    write_experiment,
    write_labelled_pairs,
    write_noisy_pairs,
)
from tests.train.running import check_same, finish, open_run

# Files ---------------------------------------------------------------------------------------


def test_a_run_directory_holds_what_the_contract_names(regression_run):
    names = {str(path.relative_to(regression_run)) for path in regression_run.rglob("*.*")}
    assert names - {"report/evaluation.json"} == {  # which `evaluate` writes, in other tests
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "log.txt",
        "checkpoints/last.pt",
        "checkpoints/best.pt",
        "previews/best.png",
        "previews/typical.png",
        "previews/worst.png",
        "report/curves.png",
    }
    for picture in regression_run.rglob("*.png"):
        assert picture.read_bytes().startswith(PNG_START)


def test_the_saved_config_is_resolved_and_starts_the_same_experiment(regression_run):
    saved = load_config(regression_run / "config.yaml")
    assert saved == load_config(regression_run.parent / "config.yaml")
    content = yaml.safe_load((regression_run / "config.yaml").read_text())
    assert content["training"]["learning_rate"] == 0.01
    assert content["training"]["seed"] == 0
    assert content["network"]["padding"] == "symmetric"


def test_description_is_written_before_the_first_step(config, tmp_path):
    run = open_run(config)
    assert load_config(tmp_path / "run" / "config.yaml") == run.config
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__
    assert not run.directory.last.exists()


def test_metrics_of_a_regression(regression_run):
    first, second = RunDirectory(regression_run).read_rows()
    assert list(first) == [
        "event",
        "epoch",
        "step",
        "train_loss",
        "validation_loss",
        "mse",
        "mae",
        "psnr",
        "ssim",
        "data_range",
        "baseline_psnr",
        "baseline_ssim",
        "gain_psnr",
        "gain_ssim",
        "learning_rate",
        "gradient_norm",
        "seconds",
        "data_seconds",
        "memory_bytes",
        "improved",
    ]
    assert (first["event"], first["epoch"], first["step"]) == ("epoch", 1, 3)
    assert (second["epoch"], second["step"], second["learning_rate"]) == (2, 6, 0.0)  # cosine
    assert second["seconds"] > first["seconds"] > 0
    # In milliseconds, of which an epoch may take none.
    assert second["seconds"] > second["data_seconds"] >= first["data_seconds"] >= 0
    assert all(math.isfinite(value) for value in list(second.values())[1:])


def self_supervised(folder, kind):
    """What a network that learns from noise alone is trained on."""
    names = ("one", "two", "three") if kind == "splits" else ("one", "two")
    sets = [write_noisy_pairs(folder / name, 3)["input"] for name in names]
    return {
        "splits": {"splits": sets},
        "swap": {"input": sets[0], "target": sets[1], "swap": True},
        "blind_spot": {"input": sets[0], "blind_spot": {}},
    }[kind]


@pytest.mark.parametrize("kind", ["splits", "swap", "blind_spot"])
def test_held_out_noise_has_a_loss_and_no_metrics(tmp_path, kind):
    data = {
        "train": self_supervised(tmp_path, kind),
        "validation": {"fraction": 0.4},
    }
    run = open_run(write_experiment(tmp_path / "config.yaml", {"data": data}))
    rows = finish(run).read_rows()
    assert [math.isfinite(row["validation_loss"]) for row in rows] == [True, True]
    assert not {"psnr", "ssim", "mse", "baseline_psnr", "gain_psnr"} & rows[-1].keys()
    assert run.record.metrics == rows[-1]
    scores = {"frc", "edges"} & rows[-1].keys()
    assert scores == ({"edges"} if kind == "blind_spot" else {"frc", "edges"})


@pytest.mark.parametrize("extra", [{"patch": 8}, {}])
def test_parts_of_images_have_no_scores(tmp_path, extra):
    train = self_supervised(tmp_path, "splits")
    if not extra:
        train["mask"] = train["splits"][0]
    data = {"train": train, "validation": {"fraction": 0.4, **extra}}
    rows = finish(open_run(write_experiment(tmp_path / "config.yaml", {"data": data}))).read_rows()
    assert not {"frc", "edges"} & rows[-1].keys()


@pytest.mark.parametrize("select", ["frc", "edges"])
def test_a_score_selects_the_best_network_also_of_a_run_that_resumes(tmp_path, select):
    data = {"train": self_supervised(tmp_path, "splits"), "validation": {"fraction": 0.4}}
    training = {"epochs": 4, "learning_rate": 0.1, "select": select, "schedule": "plateau"}
    config = write_experiment(tmp_path / "config.yaml", {"data": data, "training": training})
    whole, parts = (f"run.directory={tmp_path}/{name}" for name in ("whole", "parts"))
    directory = finish(open_run(config, whole))
    scores = [row[select] for row in directory.read_rows()]
    best = load_checkpoint(directory.best)
    assert best.progress.best_epoch == scores.index(max(scores)) + 1 == best.metrics["epoch"]
    assert best.progress.best_loss == -max(scores)
    assert load_checkpoint(directory.last).progress.best_loss == -max(scores)
    run = open_run(config, parts)
    events = run.events()
    validated = (event for event in events if isinstance(event, ImageValidated))
    for _ in itertools.islice(validated, 4):  # into the second epoch's
        run.record.save(best=False)
    events.close()
    check_same(finish(open_run(config, parts, resume=True)), directory)


def test_clean_targets_of_self_supervision_have_metrics(tmp_path):
    data = {
        "train": self_supervised(tmp_path, "swap"),
        "validation": write_noisy_pairs(tmp_path / "validation", 2),
    }
    run = open_run(write_experiment(tmp_path / "config.yaml", {"data": data}))
    finish(run)
    assert {"psnr", "gain_psnr"} <= run.record.metrics.keys()


def test_metrics_of_a_segmentation(segmentation_run):
    row = RunDirectory(segmentation_run).read_rows()[-1]
    assert row["iou"].keys() == row["dice"].keys() == {"0", "127", "255"}
    assert 0 < row["accuracy"] <= 1


def test_epochs_without_validation_have_no_validation_metrics(config):
    directory = finish(open_run(config, "training.validate_every=2", "training.epochs=3"))
    rows = directory.read_rows()
    assert [row["validation_loss"] is None for row in rows] == [True, False, False]
    assert ["psnr" in row for row in rows] == [False, True, True]


def test_a_run_logs_its_epochs_and_its_end(regression_run):
    text = (regression_run / "log.txt").read_text()
    assert "epoch 1" in text and "epoch 2" in text
    assert "finished: all 2 epochs are done" in text


@pytest.mark.parametrize("kind", ["regression_run", "segmentation_run"])
def test_a_checkpoint_describes_itself(kind, request):
    run = request.getfixturevalue(kind)
    best, last = (load_checkpoint(run / "checkpoints" / f"{name}.pt") for name in ("best", "last"))
    model = last.model
    assert model.architecture.to_dict() == {
        "c_in": 1,
        "c_out": 3 if kind == "segmentation_run" else 1,
        "depth": 3,
        "width": 1,
        "dilations": [1, 2, 3],
        "ndim": 2,
        "padding": "symmetric",
    }
    assert model.labels == (tuple(LABELS) if kind == "segmentation_run" else ())
    assert last.versions["msdtool"]
    assert last.config["run"]["directory"] == str(run)
    assert last.training["optimizer"]["state"]
    assert best.training == {}


def test_best_is_the_epoch_with_the_lowest_validation_loss_and_last_is_the_last(
    config, monkeypatch
):
    run = open_run(config, "training.epochs=4", "training.learning_rate=0.1")
    states = []
    for event in run.events():
        if hasattr(event, "improved"):
            states.append({k: v.clone() for k, v in run.network.state_dict().items()})
    losses = [row["validation_loss"] for row in run.directory.read_rows()]
    chosen = losses.index(min(losses))
    best, last = load_checkpoint(run.directory.best), load_checkpoint(run.directory.last)
    assert best.progress.best_epoch == best.progress.epoch == chosen + 1
    assert best.progress.best_loss == min(losses)
    for checkpoint, state in ((best, states[chosen]), (last, states[-1])):
        for name, tensor in state.items():
            assert torch.equal(checkpoint.model.state[name], tensor)


def test_normalisation_is_that_of_the_training_files(config, tmp_path):
    run = open_run(config)
    import numpy as np
    import tifffile

    for kind, name in (("input", "noisy"), ("target", "clean")):
        files = sorted((tmp_path / "train" / name).iterdir())
        values = np.stack([tifffile.imread(file) for file in files]).astype(np.float64)
        assert getattr(run.record.normalisation, f"{kind}_mean") == pytest.approx([values.mean()])
        assert getattr(run.record.normalisation, f"{kind}_std") == pytest.approx([values.std()])
    assert run.record.normalisation.data_range == pytest.approx(values.max() - values.min())


# What goes wrong -----------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(config, tmp_path):
    run = open_run(config, "training.batch_size=1", "training.accumulate=1")
    events = run.events()
    for _ in range(3):
        next(events)
    run.record.save(best=False)
    before = run.directory.last.read_bytes()
    with torch.no_grad():
        run.network.msd.final_layer.linear.bias.fill_(math.nan)
    with pytest.raises(TrainingError, match=r"loss is not finite at step 4 .*/noisy/image_00\d"):
        list(events)
    assert run.directory.last.read_bytes() == before


def test_max_time_ends_a_run_that_would_take_longer(config):
    directory = finish(open_run(config, "training.max_time=1.0e-6", "training.epochs=9999"))
    assert "the time limit of 1e-06 s is reached" in directory.log_file.read_text()
    assert directory.read_rows()[-1]["validation_loss"] is not None


def test_summary_and_warnings(tmp_path):
    pairs = write_labelled_pairs(tmp_path / "data", 4)
    (tmp_path / "data" / "labels" / "image_003.tif").rename(tmp_path / "data/labels/image_004.tif")
    sections = {
        "task": "segmentation",
        "data": {
            "train": pairs,
            "validation": {"fraction": 0.25},
            "labels": LABELS,
            "crop": [16, 12],
        },
    }
    run = open_run(write_experiment(tmp_path / "config.yaml", sections))
    summary = summarise(run)
    assert summary["task"] == "segmentation, loss cross_entropy"
    assert summary["data"] == "3 training pairs, 1 for validation"
    assert summary["samples"] == "1 x 16 x 12 (channels and pixels), random crops"
    # 9 * (1 + 2 + 3) weights and 3 biases, then 3 * 4 weights and 3 biases.
    assert "depth 3, width 1, 1 -> 3 channels, 72 parameters" in summary["network"]
    assert summary["start"] == "epoch 1 of 2"
    assert run.total_steps == 6
    assert pairing_warnings(run) == [
        "image_003.tif is paired with image_004.tif: the names disagree; 'msdtool check' shows all "
        "pairs"
    ]


def test_volumes_are_trained_on(tmp_path):
    data = {"train": write_noisy_pairs(tmp_path / "data", 2, (6, 7, 8)), "crop": [5, 6, 6]}
    sections = {
        "data": data,
        "network": {"ndim": 3, "depth": 2, "dilations": [1, 2]},
        "training": {"batch_size": 2, "epochs": 1},
    }
    directory = finish(open_run(write_experiment(tmp_path / "config.yaml", sections)))
    assert math.isfinite(directory.read_rows()[0]["train_loss"])


def test_measuring_reports_its_progress(config):
    reported = []
    open_run(config, progress=lambda *place: reported.append(place))
    assert reported == [(k, len(reported), "") for k in range(len(reported))]
    assert len(reported) > 2


@pytest.mark.parametrize("reason", ["there is no compiler", None])
def test_a_run_without_the_fast_engine_logs_it(config, monkeypatch, caplog, reason):
    monkeypatch.setattr("msdtool.nn.device.slow_because", lambda _: reason)
    caplog.set_level("INFO", "msdtool")
    open_run(config)
    assert (f"which is slower: {reason}" in caplog.text) == (reason is not None)
    assert "measuring 5 training pairs" in caplog.messages


def test_a_run_that_cannot_be_prepared_leaves_its_directory_to_others(config, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(prepare, "build_learner", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError) as kept:
            open_run(config)
    assert kept.tb is not None  # its frames still refer to the directory
    finish(open_run(config, resume=True))


def test_a_run_killed_just_before_its_end_is_finished_once(config):
    directory = finish(open_run(config, "run.previews=true"))
    log, picture = directory.log_file, directory.previews / "best.png"
    lines, drawn = log.read_text().splitlines(), picture.read_bytes()
    assert "finished: " in lines.pop()
    log.write_text("\n".join(lines) + "\n")
    picture.unlink()
    for _ in range(2):
        finish(open_run(config, "run.previews=true", resume=True))
        assert picture.read_bytes() == drawn
        assert [line[21:] for line in log.read_text().splitlines()].count(
            directory.last_logged
        ) == 1
    assert directory.last_logged.startswith("finished: ")


def test_graphs_need_a_gpu(config):
    message = r"training\.cuda_graphs: needs one process on a GPU; got 1 on cpu; set it to false"
    with pytest.raises(ConfigError, match=message):
        open_run(
            config, "training.cuda_graphs=true", "training.accumulate=1", "training.device=cpu"
        )


def test_training_calls_the_network_through_graphs(config, monkeypatch, tmp_path):
    """With a stand-in for CUDA's, which calls the network itself."""
    shapes = []

    def capture(network, sample):
        shapes.append(tuple(sample.shape))
        return network.forward

    monkeypatch.setattr(graphs, "_capture_training", capture)
    monkeypatch.setattr(opening, "uses_graphs", lambda config, *_: config.training.cuda_graphs)
    one = "training.accumulate=1"
    plain = finish(open_run(config, one, f"run.directory={tmp_path / 'plain'}"))
    graphed = finish(open_run(config, one, "training.cuda_graphs=true"))
    assert shapes == [(2, 1, 12, 14), (1, 1, 12, 14)]  # three images in batches of two
    check_same(graphed, plain)


@pytest.mark.parametrize(
    ("device", "size", "overrides", "expected"),
    [
        ("cuda", 1, (), True),
        ("cuda", 1, ("training.precision=tf32",), True),
        ("cuda", 1, ("training.cuda_graphs=false",), False),
        ("cuda", 1, ("training.accumulate=2",), False),
        ("cuda", 1, ("training.precision=bf16",), False),
        ("cuda", 2, (), False),
        ("cpu", 1, (), False),
    ],
)
def test_steps_become_graphs_where_they_can(config, device, size, overrides, expected):
    experiment = load_config(config, ("training.accumulate=1", *overrides))
    train, _ = build_datasets(experiment)
    assert uses_graphs(experiment, torch.device(device), size, train) is expected


def test_images_of_several_sizes_become_graphs_only_if_asked_for(config, tmp_path):
    write_noisy_pairs(tmp_path / "train", 1, (13, 14))  # image 0 has a size of its own
    found = []
    for override in ("data.crop=8", "training.cuda_graphs=true", "data.crop=null"):
        experiment = load_config(config, ("training.accumulate=1", override))
        train, _ = build_datasets(experiment)
        found.append(uses_graphs(experiment, torch.device("cuda"), 1, train))
    assert found == [True, True, False]


# On a GPU ------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("cuda_graphs", ["false", "true"])
def test_a_gpu_trains_and_applies_what_the_cpu_does(config, tmp_path, cuda_graphs):
    common = "training.accumulate=1", "training.gradient_clip=10"
    found, expected = (
        finish(
            open_run(
                config,
                *common,
                f"training.device={device}",
                f"training.cuda_graphs={graphed}",
                f"run.directory={tmp_path / device}",
            )
        )
        for device, graphed in (("cuda", cuda_graphs), ("cpu", "false"))
    )
    for one, two in zip(found.read_rows(), expected.read_rows(), strict=True):
        assert one["train_loss"] == pytest.approx(two["train_loss"], rel=1e-2)
    image = torch.rand(1, 40, 41)
    by_gpu, by_cpu = (Predictor.load(found.path, device=device) for device in ("cuda", "cpu"))
    whole = by_cpu(image)
    torch.testing.assert_close(by_gpu(image), whole, rtol=1e-3, atol=1e-3)
    by_gpu.fits = lambda space: False
    torch.testing.assert_close(by_gpu(image), whole, rtol=1e-3, atol=1e-3)
