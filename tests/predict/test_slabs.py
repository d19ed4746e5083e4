"""Networks that see slabs give a slice the same result whichever files they are given."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch

from msdtool import MSDRegressionModel
from msdtool.runs.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def model(tmp_path):
    """A model of slabs of five slices, with random weights."""
    torch.manual_seed(0)
    network = MSDRegressionModel(5, 1, 3, 1, device="cpu")
    torch.nn.init.normal_(network.msd.final_layer.linear.weight)
    network.save(tmp_path / "model.pt", 1)
    checkpoint = load_checkpoint(tmp_path / "model.pt")
    save_checkpoint(
        tmp_path / "model.pt", replace(checkpoint, model=replace(checkpoint.model, slab=2))
    )
    return tmp_path / "model.pt"


@pytest.fixture
def scan(tmp_path):
    folder = tmp_path / "scan"
    folder.mkdir()
    volume = np.random.default_rng(0).normal(size=(9, 24, 20)).astype(np.float32)
    for number, image in enumerate(volume):
        tifffile.imwrite(folder / f"slice_{number:04}.tif", image)
    return folder


def test_what_is_missing_is_computed_as_if_it_had_never_been(cli, model, scan, tmp_path):
    """``predict --missing | predict -`` after a part of the results was lost."""
    pattern = f"{scan}/*.tif"
    assert cli("predict", model, pattern, "-o", tmp_path / "whole").code == 0
    assert cli("predict", model, pattern, "-o", tmp_path / "again").code == 0
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").glob("*.tif")}
    assert len(whole) == 9
    for number in (0, 3, 4, 8):
        (tmp_path / "again" / f"slice_{number:04}.tif").unlink()
    listed = cli("predict", model, pattern, "-o", tmp_path / "again", "--missing")
    assert listed.code == 1
    assert len(listed.out.split()) == 4
    assert cli("predict", model, "-", "-o", tmp_path / "again", stdin=listed.out).code == 0
    again = {path.name: path.read_bytes() for path in (tmp_path / "again").glob("*.tif")}
    assert again == whole


@pytest.mark.parametrize("pattern", ["slice_0003.tif", "slice_000[0369].tif", "*3.tif"])
def test_some_slices_are_computed_as_in_the_whole_scan(cli, model, scan, tmp_path, pattern):
    assert cli("predict", model, scan, "-o", tmp_path / "whole").code == 0
    assert cli("predict", model, f"{scan}/{pattern}", "-o", tmp_path / "some").code == 0
    some = list((tmp_path / "some").glob("*.tif"))
    assert some
    for path in some:
        assert path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("numbers", "missing"), [([4], "number 4 is missing"), ([4, 5], "numbers 4 to 5 are missing")]
)
def test_a_gap_in_the_scan_is_named(cli, model, scan, tmp_path, caplog, numbers, missing):
    for number in numbers:
        (scan / f"slice_{number:04}.tif").unlink()
    result = cli("predict", model, scan, "-o", tmp_path / "out")
    assert result.code == 0
    assert f"the next slice is slice_{numbers[-1] + 1:04}.tif: {missing}" in caplog.text


def test_too_few_slices_for_a_slab_are_told_of(cli, model, scan, tmp_path, caplog):
    assert cli("predict", model, scan, "-o", tmp_path / "all").code == 0
    assert not caplog.records
    (tmp_path / "alone").mkdir()
    (scan / "slice_0004.tif").rename(tmp_path / "alone" / "slice_0004.tif")
    assert cli("predict", model, tmp_path / "alone", "-o", tmp_path / "out").code == 0
    said = f"{tmp_path}/alone/slice_0004.tif: is in a volume of 1 slice, fewer than the 5 of a slab"
    assert said in caplog.text


def test_a_volume_of_slices_with_a_gap_is_told_of(cli, regression_run, scan, tmp_path, caplog):
    (scan / "slice_0004.tif").unlink()
    arguments = ("predict", regression_run, scan, "-o")
    said = f"{scan}/slice_0003.tif: the next slice is slice_0005.tif: number 4 is missing"
    assert cli(*arguments, tmp_path / "out").code == 0
    assert said not in caplog.text
    assert cli(*arguments, tmp_path / "volume.tif", "--stack").code == 0
    assert f"{said}. In the volume, these slices are adjacent" in caplog.text


def test_a_slice_by_another_name_is_named(cli, model, scan, tmp_path, caplog):
    (scan / "slice_0004.tif").rename(scan / "slice_0004_fixed.tif")
    assert cli("predict", model, scan, "-o", tmp_path / "out").code == 0
    assert "number 4 is missing; if it is slice_0004_fixed.tif, rename that" in caplog.text
