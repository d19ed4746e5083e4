"""What results are called."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from msdtool.data.specifiers import Location
from msdtool.predict import plan_jobs
from msdtool.predict.names import common_name, name_of


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("slice_0001", "slice_0001"), "slice_0001"),
        (("scan_1", "scan_2", "scan_3"), "scan"),
        (("rec_even_0001", "rec_odd_0001"), "rec_0001"),
        (("1_scan.a", "2_scan.a"), "scan.a"),
        (("noisy1", "noisy2"), "noisy"),
        (("a", "b"), "a"),
        (("a_b", "a"), "a"),
        (("1_1", "2_2"), "1_1"),
    ],
)
def test_splits_are_named_by_what_they_share(names, expected):
    assert common_name(names) == expected


def test_the_only_dataset_of_a_file_is_not_named(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x/data"] = np.zeros((4, 5))
        file["x/angles"] = np.zeros(7)  # no image
    assert name_of(Location(tmp_path / "a.h5", "/x/data")) == "a"
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["labels"] = np.zeros((4, 5))
    assert name_of(Location(tmp_path / "a.h5", "/x/data")) == "a_x_data"
    assert name_of(Location(tmp_path / "a.h5", "labels")) == "a_labels"


def test_levels_of_an_ome_zarr_image_are_one_image(tmp_path):
    zarr = pytest.importorskip("zarr", "3")
    levels = [{"path": str(level)} for level in (0, 1)]
    axes = [{"name": name, "type": "space"} for name in "yx"]
    for name in ("a.zarr", "b.zarr"):
        group = zarr.open_group(str(tmp_path / name), mode="w")
        group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}
        for level in (0, 1):
            group.create_array(str(level), shape=(8 >> level, 8 >> level), dtype="uint8")
    group.create_array("labels", shape=(8, 8), dtype="uint8")
    assert name_of(Location(tmp_path / "a.zarr", "0")) == "a"
    assert name_of(Location(tmp_path / "b.zarr", "labels")) == "b_labels"


def names(splits, output):
    first, *others = splits
    return [job.output.name for job in plan_jobs(first, output, other_splits=others)]


def test_results_of_splits_do_not_have_the_name_of_the_first(tmp_path):
    for split in (1, 2):
        folder = tmp_path / f"part{split}"
        folder.mkdir()
        for index in range(2):
            tifffile.imwrite(folder / f"rec{split}_{index}.tif", np.zeros((4, 5)))
    splits = [f"{tmp_path}/part{split}" for split in (1, 2)]
    assert names(splits, tmp_path / "out") == ["0.tif", "1.tif"]
    single = [str(Path(split, f"rec{number}_0.tif")) for number, split in enumerate(splits, 1)]
    assert names(single, tmp_path / "out") == ["0.tif"]
    # If numbers of files differ, nothing tells which belong together.
    assert names([splits[0], single[1]], tmp_path / "out") == ["rec1_0.tif", "rec1_1.tif"]
