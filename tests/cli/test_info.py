import json

import torch


def test_info_shows_what_is_in_a_run(cli, segmentation_run):
    result = cli("info", segmentation_run)
    assert (result.code, result.err) == (0, "")
    rows = dict(line.split(maxsplit=1) for line in result.out.splitlines())
    assert rows["checkpoint"] == str(segmentation_run / "checkpoints" / "best.pt")
    assert rows["task"] == "segmentation"
    assert rows["architecture"].startswith("c_in 1, c_out 3, depth 3, width 1")
    # 9 * (1 + 2 + 3) weights and 3 biases, then 3 * 4 weights and 3 biases.
    assert rows["parameters"] == "72"
    assert rows["labels"] == "[0, 127, 255]"
    assert f"torch {torch.__version__}" in rows["versions"]


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
