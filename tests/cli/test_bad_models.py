"""Model files and run directories that cannot be used: exit code 3, and no code in them is run."""

import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from msdtool.errors import ModelFileError
from msdtool.runs.rundir import RunDirectory

COMMANDS = ["predict", "evaluate", "info"]
NO_CHECKPOINT = "not a checkpoint of msdtool, or a damaged one"
NOT_OURS = "not a checkpoint of msdtool"
CODE = "contains objects other than tensors and plain data, which may run code; it is not loaded"


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (Path(self.mark),)


def write_zip(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("notes.txt", "not a model")


def write_broken_archive(path):
    """Torch's layout, but what should be a pickle is not."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", "not a pickle")
        file.writestr("archive/version", "3\n")


# How a file at the path is written, and what is said about it.
FILES = {
    "text": (lambda path: path.write_text("weights: 1, 2, 3\n" * 9), NO_CHECKPOINT),
    "empty": (Path.touch, NO_CHECKPOINT),
    "bytes": (lambda path: path.write_bytes(bytes(range(256)) * 9), NO_CHECKPOINT),
    "zip": (write_zip, NO_CHECKPOINT),
    "broken archive": (write_broken_archive, CODE),
    "pickle": (lambda path: path.write_bytes(pickle.dumps({"a": 1})), NO_CHECKPOINT),
    "tensor": (lambda path: torch.save(torch.zeros(3), path), NOT_OURS),
    "weights alone": (lambda path: torch.save({"linear.weight": torch.zeros(3)}, path), NOT_OURS),
    "module": (lambda path: torch.save(torch.nn.Linear(2, 2), path), CODE),
    "array": (lambda path: torch.save({"a": np.zeros(3)}, path), CODE),
}


@pytest.fixture
def run_command(refused, regression_run, tmp_path):
    """Use a model file in a command, which must refuse it."""
    images = regression_run.parent / "train"

    def run(command, model):
        options = {
            "predict": [images / "noisy", "-o", tmp_path / "out"],
            "evaluate": ["--input", images / "noisy", "--target", images / "clean"],
            "info": [],
        }
        found = refused(command, model, *options[command], code=3)
        assert not (tmp_path / "out").exists()
        return found

    return run


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_is_not_a_checkpoint(run_command, tmp_path, command, name):
    path = tmp_path / "model.pt"
    write, message = FILES[name]
    write(path)
    assert run_command(command, path) == f"{path}: {message}"


@pytest.mark.parametrize("kind", ["pickle", "torch", "old torch", "in a checkpoint", "in a run"])
@pytest.mark.parametrize("command", COMMANDS)
def test_code_in_a_file_is_not_run(run_command, regression_run, tmp_path, command, kind):
    mark, path = tmp_path / "ran", tmp_path / "model.pt"
    payload = Payload(str(mark))
    if kind == "pickle":
        path.write_bytes(pickle.dumps(payload))
    elif kind == "in a checkpoint":
        content = torch.load(regression_run / "checkpoints/best.pt", weights_only=True)
        torch.save({**content, "metrics": payload}, path)
    elif kind == "in a run":
        path = tmp_path / "run" / "checkpoints" / "best.pt"
        path.parent.mkdir(parents=True)
        torch.save({"format": payload}, path)
    else:
        torch.save([payload], path, _use_new_zipfile_serialization=kind == "torch")
    found = run_command(command, tmp_path / "run" if kind == "in a run" else path)
    assert found == f"{path}: {NO_CHECKPOINT if kind in ('pickle', 'old torch') else CODE}"
    assert not mark.exists()
    # The payload does work: whoever trusts the file runs it.
    torch.load(path, weights_only=False) if kind != "pickle" else pickle.loads(path.read_bytes())
    assert mark.exists()


def remove(*keys):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


def replace(*keys, value):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


# What is changed in a good checkpoint, and what is said about it.
CHANGES = {
    "newer": (replace("version", value=2), "is a checkpoint of version 2, this msdtool reads "
              "version 1; update msdtool"),
    "no version": (remove("version"), "is a checkpoint of version None"),
    "other format": (replace("format", value="other"), NOT_OURS),
    "no model": (remove("model"), "is damaged: model is missing"),
    "no state": (remove("model", "state"), "is damaged: model.state is missing"),
    "no labels": (remove("model", "labels"), "is damaged: model.labels is missing"),
    "model is a list": (replace("model", value=[1]), "is damaged: model is [1]; expected keys"),
    "no progress": (remove("progress"), "is damaged: progress is missing"),
    "label a string": (
        replace("model", "labels", value=["a"]),
        "is damaged: model.labels is ['a']; expected a list",
    ),
    "slab a list": (replace("model", "slab", value=[]), "is damaged: model.slab is []; expected an "
                    "integer"),
    "state of numbers": (replace("model", "state", value={"a": 1}),
                         "is damaged: model.state.a is 1; expected a Tensor"),
    "no statistics": (replace("model", "normalisation", value={}), "is damaged: model."
                      "normalisation.input_mean, model.normalisation.input_std, "),
    "epoch a string": (replace("progress", "epoch", value="2"), "is damaged: progress.epoch is "
                       "'2'; expected an integer"),
    "architecture incomplete": (remove("model", "architecture", "depth"),
                                "is damaged: model.architecture.depth is missing"),
    "no ndim": (remove("model", "architecture", "ndim"),
                "is damaged: model.architecture.ndim is missing"),
    "five dimensions": (replace("model", "architecture", "ndim", value=5),
                        "is damaged: model.architecture.ndim is 5; expected 2 or 3"),
    "no dilations": (replace("model", "architecture", "dilations", value=[]),
                     "is damaged: model.architecture.dilations is []; expected"),
    "width of nothing": (replace("model", "architecture", "width", value=0),
                         "is damaged: model.architecture.width is 0; expected 1 or more"),
    "an unknown part": (replace("model", "architecture", "attention", value=1),
                        "is damaged: model.architecture.attention is unknown; update msdtool"),
    "stem alone": (replace("model", "architecture", "stem", value=[]),
                   "is damaged: model.architecture.c_stem, "),
    "time of five axes": (replace("model", "architecture", "stream", value={"axis": 5, "dt": 1}),
                          "is damaged: model.architecture.stream.axis is 5; expected 0, 1 or 2"),
    "weight missing": (remove("model", "state", "msd.msd_block.bias"),
                       "is damaged: model.state has no msd.msd_block.bias"),
    "weight too many": (replace("model", "state", "msd.extra", value=torch.zeros(1)),
                        "is damaged: model.state has 'msd.extra', which the architecture does not"),
    "weight of another shape": (
        replace("model", "state", "msd.msd_block.bias", value=torch.zeros(7)),
        "is damaged: model.state.msd.msd_block.bias has shape (7,); the architecture needs (3,)",
    ),
    "endless network": (replace("model", "architecture", "depth", value=10**9),
                        "is damaged: model.state has the weights of 3 hidden layers; the "
                        "architecture has 1000000000"),
    "slab without end": (replace("model", "slab", value=10**12),
                         "is damaged: model.slab is 1000000000000; expected slices that make up 1"),
}  # fmt: skip


def write_changed(path, run, change):
    content = torch.load(run / "checkpoints/best.pt", weights_only=True)
    change(content)
    torch.save(content, path)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_checkpoint_that_lacks_something(run_command, regression_run, tmp_path, command, name):
    path = tmp_path / "model.pt"
    change, message = CHANGES[name]
    write_changed(path, regression_run, change)
    assert run_command(command, path).startswith(f"{path}: {message}")


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_truncated_checkpoint(run_command, regression_run, tmp_path, command, kept):
    path = tmp_path / "model.pt"
    content = (regression_run / "checkpoints/best.pt").read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert run_command(command, path) == f"{path}: {NO_CHECKPOINT}"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_model_that_is_not_there(run_command, tmp_path, command):
    path = tmp_path / "none"
    expected = f"{path}: no such run directory or checkpoint file"
    assert run_command(command, path) == expected


@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_directory_without_a_checkpoint(run_command, regression_run, tmp_path, command):
    path = tmp_path / "run"
    shutil.copytree(regression_run, path)
    shutil.rmtree(path / "checkpoints")
    assert run_command(command, path) == (
        f"{path}: no checkpoint in this folder; expected checkpoints/best.pt, which 'msdtool "
        "train' writes"
    )


def test_a_damaged_checkpoint_is_not_continued(refused, regression_run, tmp_path):
    """And it is not replaced: it may be all there is."""
    run = tmp_path / "run"
    shutil.copytree(regression_run, run)
    (run / "checkpoints/last.pt").write_bytes(b"damaged")
    found = refused("train", run / "config.yaml", "--run-dir", run, "--resume", code=3)
    assert found == (
        f"{run}/checkpoints/last.pt: {NO_CHECKPOINT}; the run cannot be resumed: restore the file, "
        "or overwrite the run to start from scratch, which replaces best.pt (--overwrite)"
    )


def test_a_process_says_no_more_than_that(tmp_path):
    """Not even a warning of torch's."""
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps({"a": 1}, protocol=4))
    command = [sys.executable, "-m", "msdtool", "info", path]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr == f"error: {path}: {NO_CHECKPOINT}\n"


@contextmanager
def without_rights(folder):
    """May read nothing in a folder; root, who may read everything, becomes another user."""
    if os.geteuid():
        folder.chmod(0)
    else:
        folder.chmod(0o700)
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(os.getuid())
        folder.chmod(0o700)


@pytest.mark.parametrize("command", [*COMMANDS, "report"])
def test_a_folder_that_may_not_be_read_is_told(cli, regression_run, tmp_path, command):
    folder = tmp_path / "private"
    shutil.copytree(regression_run, folder / "run")
    images = regression_run.parent / "train"
    options = {
        "predict": [images / "noisy", "-o", tmp_path / "out"],
        "evaluate": ["--input", images / "noisy", "--target", images / "clean"],
    }.get(command, [])
    cli(command, "nothing", *options)  # imports what the other user may not read
    with without_rights(folder):
        result = cli(command, folder / "run", *options)
    assert (result.code, result.out) == (3, "")
    assert result.err.startswith(f"error: {folder}") and "no permission to read it" in result.err


def test_a_run_directory_that_may_not_be_read_is_told(regression_run, tmp_path):
    folder = tmp_path / "private"
    shutil.copytree(regression_run, folder / "run")
    run = RunDirectory(folder / "run")
    with without_rights(folder), pytest.raises(ModelFileError, match="no permission to read it"):
        run.claim(resume=True, overwrite=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_pipe_is_not_waited_for(run_command, tmp_path, command):
    os.mkfifo(tmp_path / "model.pt")
    found = run_command(command, tmp_path / "model.pt")
    assert found == (
        f"{tmp_path / 'model.pt'}: cannot be read: it is a pipe; save what it contains as a file"
    )


def test_an_archive_that_unpacks_to_more_than_it_is_is_not_read(run_command, tmp_path):
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"\0" * 10**7)
    assert run_command("info", path) == f"{path}: {NO_CHECKPOINT}"


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_an_output_that_is_not_finite_is_told(cli, regression_run, tmp_path, command):
    """The weights are finite, and so are the images."""

    def enlarge(content):
        content["model"]["state"]["msd.final_layer.linear.weight"].fill_(3e38)

    path, images = tmp_path / "model.pt", regression_run.parent / "train"
    write_changed(path, regression_run, enlarge)
    options = {
        "predict": [images / "noisy", "-o", tmp_path / "out"],
        "evaluate": ["--input", images / "noisy", "--target", images / "clean"],
    }
    result = cli(command, path, *options[command])
    assert result.code == 0
    told = [line for line in result.err.splitlines() if "NaN or infinite" in line]
    assert len(told) == len(list((images / "noisy").iterdir()))
    assert all("do not trust the result" in line for line in told)
