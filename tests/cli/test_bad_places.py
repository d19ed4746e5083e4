"""Places that cannot be written to, or hold what must stay."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from ..helpers import write_noisy_pairs
from .conftest import contents

# Where a run cannot go, below a folder that holds a file "file": (directory, message).
NO_DIRECTORIES = {
    "a file": ("file", "{0}/file: is a file; choose another run.directory"),
    "below a file": ("file/run", "{0}/file/run: cannot be used as run directory: Not a directory"),
    "where nobody writes": ("/proc/run", "/proc/run: cannot be used as run directory: "),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_DIRECTORIES)
def test_a_run_directory_that_cannot_be_made(refused, config, tmp_path, name):
    (tmp_path / "file").write_text("mine")
    directory, message = NO_DIRECTORIES[name]
    found = refused("train", config, "--run-dir", tmp_path / directory, code=2)
    assert found.startswith(message.format(tmp_path))


def test_a_directory_that_may_not_be_written_to(refused, config, tmp_path, monkeypatch):
    """Permissions do not bind root, so the system's answer is given here."""
    (tmp_path / "run").mkdir()
    access = os.access
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK and access(path, mode))
    found = refused("train", config, code=2)
    assert found == f"{tmp_path}/run: no permission to write there"


def test_a_directory_with_other_files(refused, config, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("mine")
    expected = f"{tmp_path}/run: holds files that are not a run; choose an empty or new folder"
    for option in ([], ["--resume"], ["--overwrite"]):
        assert refused("train", config, *option, code=2) == expected


@pytest.mark.parametrize("epochs", [2, 5])
def test_a_directory_with_a_run(refused, cli, config, tmp_path, epochs):
    assert cli("train", config).code == 0
    found = refused("train", config, "--set", f"training.epochs={epochs}", code=2)
    assert found.startswith(
        f"{tmp_path}/run: already holds a run; resume it, overwrite it, or choose another "
        "run.directory"
    )


def test_a_directory_with_another_run(refused, cli, config, tmp_path):
    assert cli("train", config).code == 0
    changes = ["--set", "network.depth=2", "--set", "training.loss=L1"]
    found = refused("train", config, "--resume", *changes, code=2)
    assert found == (
        f"{tmp_path}/run: the run was started with other values of network.depth, training.loss; "
        "revert the change, or choose another run.directory (--run-dir)"
    )


def test_a_run_whose_images_have_changed(refused, cli, config, tmp_path):
    assert cli("train", config).code == 0
    for kind in ("noisy", "clean"):
        shutil.copy(tmp_path / f"t/{kind}/image_000.tif", tmp_path / f"t/{kind}/image_002.tif")
    found = refused("train", config, "--resume", code=3)
    assert found.startswith(
        f"{tmp_path}/run: the run was started on 2 training images, now 3 were found; restore the "
        "files, or choose another run.directory (--run-dir)"
    )


def test_a_run_whose_config_is_damaged(refused, cli, config, tmp_path):
    assert cli("train", config).code == 0
    (tmp_path / "run" / "config.yaml").write_text("task: [")
    found = refused("train", config, "--resume", code=2)
    assert found.startswith(f"{tmp_path}/run/config.yaml:1:8: not valid YAML: ")


def test_names_that_are_too_long(refused, config, regression_run, images, tmp_path):
    folder = tmp_path / ("x" * 300)
    for command in (["train", config, "--run-dir"], ["predict", regression_run, images, "-o"]):
        assert refused(*command, folder, code=1) == f"{folder}: File name too long"


# Where predictions cannot go, below a folder that holds a file "file": (folder, code, message).
NO_FOLDERS = {
    "a file": ("file", 2, "{0}/file: is a file; choose a folder for the results"),
    "below a file": ("file/out", 1, "{0}/file/out/image_000.tif: cannot be written: Not a direct"),
    "where nobody writes": ("/proc/out", 1, "/proc/out/image_000.tif: cannot be written: "),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_FOLDERS)
def test_a_folder_for_results_that_cannot_be_made(refused, regression_run, images, tmp_path, name):
    (tmp_path / "file").write_text("mine")
    folder, code, message = NO_FOLDERS[name]
    found = refused("predict", regression_run, images, "-o", tmp_path / folder, code=code)
    assert found.startswith(message.format(tmp_path))


# What no result replaces: (how it is made, what the message calls it).
NO_FILES = {
    "folder": (Path.mkdir, "a folder"),
    "pipe": (os.mkfifo, "a named pipe"),
    "link to a device": (lambda path: path.symlink_to("/dev/null"), "a device"),
}
NOWHERE = ["--input", "nowhere", "--target", "nowhere"]
# Commands that write one file, by its name.
WRITERS = {
    "report.png": ["report", "RUN", "--figure"],
    "evaluate.png": ["evaluate", "RUN", *NOWHERE, "--figure"],
    "bench.png": ["bench", "--figure"],
}


def state(path):
    """What tells that a path was replaced or written to; not the time of the last reading."""
    status = path.lstat()
    return status.st_mode, status.st_ino, status.st_size, status.st_mtime_ns


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("name", WRITERS)
def test_a_command_replaces_nothing_but_files(refused, regression_run, tmp_path, name, kind):
    make, found = NO_FILES[kind]
    path = tmp_path / name
    make(path)
    before = state(path)
    command = [regression_run if word == "RUN" else word for word in WRITERS[name]]
    assert refused(*command, path, code=2) == (
        f"{path}: cannot be written: it is {found}, and only a regular file is replaced; "
        "choose another name"
    )
    assert state(path) == before


@pytest.mark.parametrize("option", [[], ["--overwrite"], ["--skip-existing"]])
@pytest.mark.parametrize("kind", ["pipe", "link to a device"])
@pytest.mark.parametrize("name", ["a.tif", "a.npy", "a.h5", "a.zarr"])
def test_a_prediction_replaces_nothing_but_results(
    refused, regression_run, images, tmp_path, name, kind, option
):
    make, found = NO_FILES[kind]
    path = tmp_path / name
    make(path)
    before = state(path)
    command = ["predict", regression_run, images / "image_000.tif", "-o", path, *option]
    wanted = "a folder of results" if name == "a.zarr" else "a regular file"
    assert refused(*command, code=2) == (
        f"{path}: cannot be written: it is {found}, and only {wanted} is replaced; "
        "choose another name"
    )
    assert state(path) == before


@pytest.mark.parametrize("option", [[], ["--overwrite"], ["--skip-existing"]])
@pytest.mark.parametrize("name", ["v", "v.zarr"])
def test_a_folder_of_other_files_is_no_result(refused, regression_run, tmp_path, name, option):
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in/v.tif", np.ones((2, 20, 24), np.float32))
    (tmp_path / "out" / name).mkdir(parents=True)
    (tmp_path / "out" / name / "thesis.tex").write_text("mine")
    source = f"{{path: {tmp_path}/in/v.tif, axes: ZYX}}"
    format = "zarr" if name == "v.zarr" else "files"
    output = ["-o", tmp_path / "out", "--format", format]
    found = refused("predict", regression_run, source, *output, *option, code=2)
    assert found == (
        f"{tmp_path}/out/{name}: cannot be written: the folder has no .msdtool.json, so msdtool "
        "did not write it; delete it yourself if unneeded, or choose another name"
    )


@pytest.mark.parametrize("format", ["tif", "npy", "h5", "zarr", "files"])
def test_a_result_replaces_one_of_ours_through_a_link(cli, regression_run, tmp_path, format):
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in/v.tif", np.ones((2, 20, 24), np.float32))
    source = f"{{path: {tmp_path}/in/v.tif, axes: ZYX}}"
    command = ["predict", regression_run, source, "--format", format, "-o"]
    for option in ([], ["--overwrite"], ["--skip-existing"]):
        assert cli(*command, tmp_path / "out", *option).code == 0
    (result,) = (tmp_path / "out").iterdir()
    expected = contents(tmp_path / "out")
    (tmp_path / "other").mkdir()
    link = tmp_path / "other" / result.name
    link.symlink_to(result)
    assert cli(*command, tmp_path / "other", "--overwrite").code == 0
    assert link.is_symlink() and contents(tmp_path / "out").keys() == expected.keys()
    assert cli(*command, tmp_path / "other").code == 2


def test_a_zarr_that_exists_is_the_result_and_not_the_folder_for_it(
    cli, regression_run, images, tmp_path
):
    command = ["predict", regression_run, images / "image_000.tif", "-o", tmp_path / "a.zarr"]
    assert cli(*command).code == 0
    before = contents(tmp_path / "a.zarr").keys()
    assert cli(*command).code == 2
    assert cli(*command, "--overwrite").code == 0
    assert contents(tmp_path / "a.zarr").keys() == before


def test_results_that_exist(refused, regression_run, images, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "image_001.tif").write_text("mine")
    found = refused("predict", regression_run, images, "-o", tmp_path / "out", code=2)
    assert found.startswith(
        f"{tmp_path}/out/image_001.tif: already exists (1 of the results do); skip existing "
        "results, or overwrite them"
    )


def test_two_inputs_with_one_output_name(refused, regression_run, images, tmp_path):
    (tmp_path / "more").mkdir()
    shutil.copy(images / "image_001.tif", tmp_path / "more" / "image_001.tiff")
    found = refused(
        "predict", regression_run, images, tmp_path / "more", "-o", tmp_path / "out", code=2
    )
    assert found == (
        f"{images}/image_001.tif and {tmp_path}/more/image_001.tiff would both be written to "
        f"{tmp_path}/out/image_001.tif; predict them into different folders"
    )


@pytest.mark.parametrize("option", [[], ["--overwrite"], ["--skip-existing"]])
def test_an_output_that_is_the_input(refused, regression_run, images, option):
    found = refused("predict", regression_run, images, "-o", images, *option, code=2)
    assert found == f"{images}/image_000.tif: is one of the inputs; choose another output folder"


def test_an_output_that_is_a_link_to_the_input(refused, regression_run, images, tmp_path):
    (tmp_path / "link").symlink_to(images)
    found = refused("predict", regression_run, images, "-o", tmp_path / "link", code=2)
    assert "is one of the inputs" in found


def test_a_figure_that_cannot_be_written(refused, regression_run, tmp_path):
    pairs = write_noisy_pairs(tmp_path / "pairs", 2)
    arguments = ["evaluate", regression_run, "--input", pairs["input"], "--target", pairs["target"]]
    (tmp_path / "file").write_text("mine")
    found = refused(*arguments, "--figure", tmp_path / "file" / "a.png", "--quiet", code=1)
    assert found == f"{tmp_path}/file/a.png: cannot be written: Not a directory"
