import json
import shutil

import h5py
import numpy as np
import pytest
import tifffile
import torch

from tests.helpers import write_stack


def test_info_shows_what_is_in_a_run(cli, segmentation_run):
    result = cli("info", segmentation_run)
    assert (result.code, result.err) == (0, "")
    rows = dict(line.split(maxsplit=1) for line in result.out.splitlines())
    assert rows["checkpoint"] == str(segmentation_run / "checkpoints" / "best.pt")
    assert rows["task"] == "segmentation"
    assert rows["network"].startswith("MSD 2D, depth 3, width 1, 1 -> 3 channels, dilations")
    # 9 * (1 + 2 + 3) weights and 3 biases, then 3 * 4 weights and 3 biases.
    assert rows["parameters"] == "72"
    assert rows["labels"] == "[0, 127, 255]"
    assert f"torch {torch.__version__}" in rows["versions"]
    assert "mean IoU " in result.out and "best epoch" in result.out
    assert "_" not in result.out.replace(rows["checkpoint"], "")


def test_json_holds_all_but_the_weights(cli, regression_run):
    result = cli("info", regression_run / "checkpoints" / "last.pt", "--json")
    facts = json.loads(result.out)
    assert facts["parameters"] == 62
    assert facts["labels"] is None
    assert facts["progress"]["epoch"] == 2
    assert facts["metrics"]["psnr"] > 0
    assert facts["config"]["training"]["epochs"] == 2
    assert len(facts["normalisation"]["input_mean"]) == 1


def test_info_of_nothing_is_an_error(cli, tmp_path):
    result = cli("info", tmp_path)
    assert (result.code, result.out) == (3, "")
    assert "no checkpoint in this folder; expected checkpoints/best.pt" in result.err


def test_info_of_images_shows_what_their_file_says(cli, tmp_path):
    metadata = {"axes": "ZYX", "unit": "um", "spacing": 2.0}
    pixels = np.zeros((3, 4, 5), np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, imagej=True, resolution=(4.0, 4.0), metadata=metadata
    )
    result = cli("info", tmp_path / "a.tif")
    assert (result.code, result.err) == (0, "")
    rows = dict(line.split(maxsplit=1) for line in result.out.splitlines())
    assert (rows["axes"], rows["shape"], rows["images"]) == ("ZYX", "[3, 4, 5]", "3")
    assert rows["pixels"] == "[X 0.25 µm, Y 0.25 µm, Z 2 µm]"
    facts = json.loads(cli("info", tmp_path / "a.tif", "--ndim", "3", "--json").out)
    assert facts["images"] == 1
    assert facts["pixels"]["Z"] == {"size": 2.0, "unit": "µm", "start": 0.0}


def test_info_of_a_file_of_several_arrays_lists_them(cli, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["one"], file["two"] = np.zeros((4, 5)), np.zeros((2, 4, 5))
    result = cli("info", tmp_path / "a.h5")
    assert result.code == 3
    assert (
        "holds 2 arrays: /one (4 x 5), /two (2 x 4 x 5); select one, such as a.h5::/one"
        in result.err
    )
    assert "shape   [2, 4, 5]" in cli("info", f"{tmp_path}/a.h5::/two").out


def test_a_checkpoint_without_a_suffix_is_a_model(cli, regression_run, tmp_path):
    shutil.copy(regression_run / "checkpoints" / "best.pt", tmp_path / "model")
    assert "task" in cli("info", tmp_path / "model").out


@pytest.mark.parametrize("name", ["nothing", "nothing.tif"])
def test_info_of_what_is_not_there(cli, tmp_path, name):
    result = cli("info", tmp_path / name)
    assert result.code == 3
    assert f"{name}: no such" in result.err


def test_info_of_several_files(cli, tmp_path):
    write_stack(tmp_path, np.ones((2, 3, 3)))
    result = cli("info", f"{tmp_path}/*.tif")
    assert result.code == 2
    assert "names 2 files; name one of them" in result.err
