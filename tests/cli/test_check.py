"""msdtool check"""

import json

import numpy as np
import pytest
import tifffile

from ..helpers import LABELS, write_experiment, write_labelled_pairs, write_noisy_pairs


@pytest.fixture
def config(tmp_path):
    data = {
        "train": write_noisy_pairs(tmp_path / "t", 4),
        "validation": write_noisy_pairs(tmp_path / "v", 2, seed=1),
    }
    return write_experiment(tmp_path / "a.yaml", {"data": data})


def test_it_shows_pairs_facts_and_memory(cli, config, tmp_path):
    code, out, err = cli("check", config)
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0] == "train pairs, the first 3:"
    noisy, clean = (f"{tmp_path}/t/{kind}/image_000.tif" for kind in ("noisy", "clean"))
    assert lines[1] == f"  {noisy}  ->  {clean}"
    assert any(line.startswith("validation target: 2 images, sizes 1 x 20 x 24 (2), types float32 "
                               "(2), values ") for line in lines)  # fmt: skip
    assert any(line.startswith("memory of a training step: about 6") for line in lines)
    assert lines[-1] == "training can start"


def test_it_writes_nothing(cli, config, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    cli("check", config)
    assert sorted(tmp_path.rglob("*")) == before


def test_it_shows_the_histogram_of_labels(cli, tmp_path):
    data = {"train": write_labelled_pairs(tmp_path / "t", 3), "labels": LABELS}
    config = write_experiment(tmp_path / "a.yaml", {"task": "segmentation", "data": data})
    images = [tifffile.imread(path) for path in (tmp_path / "t" / "labels").iterdir()]
    lines = cli("check", config).out.splitlines()
    start = lines.index("labels in the training targets:")
    total = sum(image.size for image in images)
    assert lines[start + 1 : start + 4] == [
        f"  {value}: {count} pixels, {100 * count / total:.2f} %"
        for value in LABELS
        for count in [sum(int((image == value).sum()) for image in images)]
    ]


def test_problems_are_listed_and_exit_with_3(cli, config, tmp_path):
    path = tmp_path / "t" / "noisy" / "image_001.tif"
    tifffile.imwrite(path, np.full((20, 24), np.nan, np.float32))
    code, out, err = cli("check", config)
    assert (code, err) == (3, "")
    assert out.splitlines()[-2:] == [
        f"problem: {path}: 480 of 480 values are NaN or infinite",
        "training would fail",
    ]


def test_json_is_the_whole_report_in_one_line(cli, config):
    code, out, err = cli("check", config, "--json")
    assert (code, err, out.count("\n")) == (0, "", 1)
    report = json.loads(out)
    assert report["problems"] == [] and report["memory_bytes"] > 2**20
    assert report["stacks"]["train input"]["shapes"] == {"1 x 20 x 24": 4}


def test_json_has_null_where_nothing_was_read(cli, config, tmp_path):
    for path in (tmp_path / "v" / "noisy").iterdir():
        tifffile.imwrite(path, np.full((20, 24), np.nan, np.float32))
    code, out, _ = cli("check", config, "--json")
    assert code == 3
    assert json.loads(out)["stacks"]["validation input"]["minimum"] is None


def test_overrides_are_checked_as_the_file_is(cli, config):
    assert cli("check", config, "--set", "data.crop=21").code == 3
    assert cli("check", config, "--set", "data.crop=20").code == 0


def test_progress_goes_to_a_terminal_only(cli, config):
    assert cli("check", config, "--quiet").err == ""


def test_what_this_machine_cannot_do_is_told_and_another_may(cli, config, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for setting in ("training.precision=bf16", "training.device=cuda"):
        code, out, _ = cli("check", config, "--set", setting)
        assert code == 0
        assert "warning: on this machine, " in out
        assert out.splitlines()[-1] == "training can start"
