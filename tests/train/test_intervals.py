"""Runs that also learn an interval, from training to its coverage."""

import itertools
import json

import numpy as np
import pytest
import tifffile
import torch

from msdtool import MSDRegressionModel
from msdtool.errors import ConfigError, InputError, ModelFileError, RunDirectoryError
from msdtool.export.interface import Interface
from msdtool.predict import Predictor
from msdtool.runs.checkpoint import load_checkpoint, save_checkpoint
from msdtool.train.events import StepDone
from tests.helpers import parse_config, write_experiment, write_noisy_pairs
from tests.train.running import check_same, finish, open_run


def experiment(folder, **sections):
    data = {
        "train": write_noisy_pairs(folder / "train", 4),
        "validation": write_noisy_pairs(folder / "validation", 3, seed=1),
        **sections.pop("data", {}),
    }
    training = {"epochs": 3, "learning_rate": 0.02, "interval": 0.8}
    sections = {"data": data, "training": training, "run": {"previews": True}, **sections}
    return write_experiment(folder / "config.yaml", sections)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return experiment(tmp_path_factory.mktemp("interval"))


@pytest.fixture(scope="module")
def directory(config):
    return finish(open_run(config))


def test_a_network_outputs_results_and_bounds_in_the_unit_of_its_targets(directory):
    model = load_checkpoint(directory.best).model
    assert (model.architecture.c_out, model.channels, model.interval) == (3, 1, 0.8)
    assert (
        len(set(model.normalisation.target_mean)) == len(set(model.normalisation.target_std)) == 1
    )
    row = directory.read_rows()[-1]
    assert 0 <= row["coverage"] <= 1 and row["width"] >= 0
    assert row["gain_psnr"] == row["psnr"] - row["baseline_psnr"]


def test_a_run_with_an_interval_resumes_bit_for_bit(config, directory, tmp_path):
    run = open_run(config, f"run.directory={tmp_path}/parts")
    events = run.events()
    for _ in itertools.islice((e for e in events if isinstance(e, StepDone)), 6):
        run.record.save(best=False)
    events.close()
    parts = f"run.directory={tmp_path}/parts"
    with pytest.raises(RunDirectoryError, match=r"training\.interval"):
        open_run(config, parts, "training.interval=0.9", resume=True)
    check_same(finish(open_run(config, parts, resume=True)), directory)


@pytest.mark.parametrize("scaling", [{}, {"per": "image"}])
def test_bounds_are_written_and_their_coverage_is_evaluated(cli, tmp_path, scaling):
    experiment(tmp_path, data={"normalisation": scaling})
    run = finish(open_run(tmp_path / "config.yaml")).path
    inputs, targets = (tmp_path / "validation" / name for name in ("noisy", "clean"))
    assert (
        cli("predict", run, inputs, "-o", tmp_path / "out", "--interval", "--tta", "--spread").code
        == 0
    )
    name = "image_001"
    result, bounds, spread = (
        tifffile.imread(tmp_path / "out" / f"{name}{kind}.tif")
        for kind in ("", "_interval", "_spread")
    )
    assert (result.shape, bounds.shape, spread.shape) == ((20, 24), (2, 20, 24), (20, 24))
    assert cli("predict", run, inputs, "-o", tmp_path / "plain", "--interval").code == 0
    found = json.loads(cli("evaluate", run, "--input", inputs, "--target", targets, "--json").out)
    expected = []
    for number in range(3):
        low, high = tifffile.imread(tmp_path / "plain" / f"image_{number:03}_interval.tif")
        target = tifffile.imread(targets / f"image_{number:03}.tif")
        expected.append(
            [((low <= target) & (target <= high)).mean(), np.maximum(high - low, 0).mean()]
        )
        image = found["images"][number]
        assert [image["coverage"], image["width"]] == pytest.approx(expected[-1], rel=1e-6)
    values = [found["output"][name] for name in ("coverage", "width")]
    assert values == pytest.approx(np.mean(expected, 0), rel=1e-6)
    assert "coverage" not in found["input"] and len(found["intervals"]["coverage"]) == 2
    text = cli(
        "evaluate", run, "--input", inputs, "--target", targets, "--figure", tmp_path / "a.png"
    )
    assert text.code == 0 and "coverage" in text.out


def test_parts_of_an_evaluation_agree_with_the_whole(cli, directory, tmp_path):
    specs = write_noisy_pairs(tmp_path / "test", 3, seed=5)
    arguments = ["evaluate", directory.best, "--input", specs["input"], "--target", specs["target"]]
    whole = json.loads(cli(*arguments, "--json").out)
    for part in (0, 1):
        shared = ["--part", part, "--num-parts", 2, "-o", tmp_path / "parts"]
        found = cli(*arguments, "--json", *shared)
    assert json.loads(found.out) == whole


def test_fine_tuning_makes_the_output_new_if_bounds_come_or_go(directory, tmp_path):
    start = {"training": {"epochs": 1, "initial": str(directory.path)}}
    run = open_run(experiment(tmp_path, **start))
    assert run.record.architecture.c_out == 1
    assert torch.count_nonzero(run.network.msd.final_layer.linear.weight) == 0
    run.directory.release()


def test_a_network_without_bounds_has_none_to_write(cli, regression_run, tmp_path):
    source = tmp_path / "a.tif"
    tifffile.imwrite(source, np.zeros((20, 20), np.float32))
    result = cli("predict", regression_run, source, "-o", tmp_path / "out", "--interval")
    message = "error: --interval: the model was trained without training.interval\n"
    assert result == (2, "", message)


def test_labels_have_no_interval(tmp_path):
    text = "task: segmentation\ndata: {train: {input: a, target: b}, labels: 3}\n"
    with pytest.raises(
        ConfigError, match=r"training\.interval: only regression uses it; remove it"
    ):
        parse_config(f"{text}training: {{interval: 0.9}}")


@pytest.mark.parametrize("value", [-0.5, 1.0, 2.0])
def test_a_checkpoint_with_another_fraction_is_damaged(directory, tmp_path, value):
    checkpoint = load_checkpoint(directory.best)
    object.__setattr__(checkpoint.model, "interval", value)
    save_checkpoint(tmp_path / "a.pt", checkpoint)
    with pytest.raises(
        ModelFileError, match=r"is damaged: model.interval is .*; expected 0, or of"
    ):
        load_checkpoint(tmp_path / "a.pt")


def test_other_ways_to_a_network_tell_of_its_bounds(cli, directory):
    facts = json.loads(cli("info", directory.path, "--json").out)
    assert facts["interval"] == 0.8
    assert "holds 0.8 of targets" in cli("info", directory.path).out
    told = Interface(load_checkpoint(directory.best).model, "a").sentences()
    assert any("The first 1 output channels are results" in line for line in told)
    model = MSDRegressionModel(1, 3, 3, 1, dilations=[1, 2, 3], device="cpu")
    with pytest.raises(
        InputError, match="outputs bounds of its results, which this class does not"
    ):
        model.load(directory.best)


def test_the_result_alone_is_what_python_returns(directory):
    image = torch.rand(1, 20, 24) + 10
    predictor = Predictor.load(directory.path, "cpu")
    assert predictor.to_image(predictor(image)).shape == (1, 20, 24)
