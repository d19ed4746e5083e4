import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from msdtool.errors import ConfigError, ModelFileError
from msdtool.measure.comparisons import Comparison
from msdtool.report.page import save_page
from msdtool.report.pictures import save_comparisons
from msdtool.report.tables import read_results
from msdtool.runs.evaluations import save_evaluation
from msdtool.runs.rundir import RunDirectory
from tests.html import Page

HOSTILE = "<script>alert('1')<img src=x onerror=alert(2)>&amp;"


@pytest.fixture
def make(tmp_path):
    """Make a run directory, without a checkpoint."""

    def run(name="run", input="noisy", depth=3):
        folder = tmp_path / name
        (folder / "previews").mkdir(parents=True)
        row = {"event": "epoch", "epoch": 1, "step": 1, "train_loss": 0.5, "seconds": 1.0}
        (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        config = {
            "task": "regression",
            "data": {"train": {"input": input, "target": "clean"}},
            "network": {"depth": depth},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        command = ["/bin/msdtool", "train", str(input)]
        environment = {"versions": {"torch": "2.7.0"}, "command": command}
        (folder / "environment.json").write_text(json.dumps(environment))
        Image.new("RGB", (5, 7), (255, 0, 0)).save(folder / "previews" / "worst.png")
        return folder

    return run


@pytest.fixture
def page(tmp_path):
    def run(*folders):
        save_page(tmp_path / "report.html", read_results(folders))
        return Page(tmp_path / "report.html")

    return run


def test_a_run_is_shown_with_its_pictures_config_and_command(make, page):
    folder = make()
    found = page(folder)
    curves, preview = found.pictures
    assert min(curves.size) > 100
    assert (preview.size, preview.getpixel((0, 0))) == ((5, 7), (255, 0, 0))
    assert f"msdtool train {folder}/config.yaml --run-dir {folder}-again" in found.text
    for text in ("msdtool train noisy", (folder / "config.yaml").read_text(), "2.7.0"):
        assert text in found.text


def test_nothing_is_loaded_from_elsewhere_and_one_script_is_run(make, page, tmp_path):
    page(make()).check_policy()
    text = (tmp_path / "report.html").read_text()
    assert "url(" not in text and "@import" not in text


def test_panels_of_previews_can_be_compared(make, page):
    folder = make()
    shape = (1, 20, 30)
    row = Comparison(
        np.full(shape, 0.0),
        np.full(shape, 1.0),
        np.linspace(0, 1, 600).reshape(shape),
        f"worst of 3, {HOSTILE}",
        input_note="PSNR 7 dB",
    )
    save_comparisons(folder / "previews" / "worst.png", [row])
    found = page(folder)
    for text in (row.title, "input PSNR 7 dB", "output - target blue -0.995, red 0.995"):
        assert text in found.said
    _, input, output, target, error = found.pictures
    assert [picture.getcolors() for picture in (input, output)] == [
        [(picture.width * picture.height, (level,) * 3)]
        for picture, level in ((input, 0), (output, 255))
    ]
    assert target.width / target.height == pytest.approx(1.5, abs=0.03)
    assert [image.size for image in (input, output, error)] == [target.size] * 3
    assert "compare" in [attrs.get("class") for _, attrs in found.elements]


def test_labels_have_a_legend(make, page):
    folder = make()
    target = np.arange(64).reshape(8, 8) // 32
    row = Comparison(np.zeros((1, 8, 8)), np.zeros((8, 8), int), target, "worst")
    save_comparisons(folder / "previews" / "worst.png", [row], (0, 7))
    found = page(folder)
    assert "0: IoU 0.50 7: IoU 0.00 wrong" in found.said
    styles = [attrs["style"] for _, attrs in found.elements if attrs.get("class") == "swatch"]
    colours = [style.removeprefix("background: #") for style in styles]
    whole = found.pictures[2].getcolors()
    assert len(whole) == 1 and bytes(whole[0][1]) == bytes.fromhex(colours[0])  # the output


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (["even/*.tif", "odd/*.tif"], "train.input even/*.tif, odd/*.tif"),
        ({"path": "a.tif", "axes": "YX"}, "train.input.path a.tif train.input.axes YX"),
    ],
)
def test_values_are_told_as_people_write_them(make, page, value, said):
    found = page(make(input=value))
    assert said in found.said
    assert "[" not in found.said.partition("Data")[2].partition("To reproduce")[0]


def test_what_files_say_stays_text(make, page):
    folder = make(HOSTILE.replace("/", ""), input=HOSTILE)
    evaluate(folder, "confusion")
    found = page(folder)
    assert len(found.scripts) == 1
    found.check_policy()
    assert found.text.count(HOSTILE) >= 4  # title, heading, config, data


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take only Unicode names")
def test_names_that_are_not_unicode_are_escaped(make, page):
    folder = make(os.fsdecode(b"run-\xff"))
    assert "run-\\udcff" in page(folder).text


def evaluate(folder, confusion=None):
    (folder / "checkpoints").mkdir()
    content = {
        "output": {"accuracy": 0.75},
        "intervals": {},
        "images": [{"image": HOSTILE, "target_digest": "a"}],
        "confusion": {"labels": [0, 7], "pixels": [[12345, 1], [2, 3]]} if confusion else None,
    }
    save_evaluation(RunDirectory(folder), content)


def test_confusion_matrices_are_shown(make, page):
    folder = make()
    evaluate(folder, "confusion")
    text = page(folder).said
    assert "target \\ output 0 7 0 12,345 1 7 2 3" in text


def test_several_runs_are_compared_on_one_page(make, page):
    found = page(make("one"), make("two", depth=4))
    assert len(found.pictures) == 3  # the curves of both, a preview of each
    assert "2 runs" in found.text
    assert "settings that differ" in found.text and "network.depth" in found.text


def test_a_page_is_replaced_and_nothing_else(make, page, tmp_path):
    folder = make()
    page(folder)
    page(folder)
    (tmp_path / "report.html").write_text("<!DOCTYPE html>\n<p>mine")
    with pytest.raises(ConfigError, match=r"report\.html: .*it exists and is something else"):
        page(folder)
    assert (tmp_path / "report.html").read_text() == "<!DOCTYPE html>\n<p>mine"


@pytest.mark.parametrize("name", ["environment.json", "previews/worst.png"])
def test_damaged_files_are_named(make, page, name):
    folder = make()
    (folder / name).write_text("[")
    with pytest.raises(ModelFileError, match=f"{name}: is .*; remove it"):
        page(folder)


def test_the_paper_is_the_one_of_the_citation_file(make, page):
    file = Path(__file__).parents[2] / "CITATION.cff"
    paper = yaml.safe_load(file.read_text(encoding="utf-8"))["references"][0]
    text = " ".join(page(make()).text.split())
    assert paper["title"] in text and paper["doi"] in text
