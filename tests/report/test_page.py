import base64
import io
import json
import os
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from PIL import Image

from msdtool.errors import ConfigError, ModelFileError
from msdtool.report.page import save_page
from msdtool.report.tables import read_results
from msdtool.runs.evaluations import save_evaluation
from msdtool.runs.rundir import RunDirectory

HOSTILE = "<script>alert('1')<img src=x onerror=alert(2)>&amp;"
VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """Checks that elements nest; collects them, their text and the pictures."""

    def __init__(self, path):
        super().__init__()
        self.open, self.elements, self.text = [], [], ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    @property
    def pictures(self):
        start = "data:image/png;base64,"
        sources = [attrs["src"] for tag, attrs in self.elements if tag == "img"]
        assert all(source.startswith(start) for source in sources)
        contents = [base64.b64decode(source.removeprefix(start)) for source in sources]
        return [Image.open(io.BytesIO(content)).convert("RGB") for content in contents]


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
        environment = {"versions": {"torch": "2.7.0"}, "command": ["/bin/msdtool", "train", input]}
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


def test_nothing_is_loaded_from_elsewhere_and_no_script_is_run(make, page, tmp_path):
    tags = [tag for tag, _ in page(make()).elements]
    assert not {"script", "link", "iframe", "object", "base"} & set(tags)
    text = (tmp_path / "report.html").read_text()
    assert "url(" not in text and "@import" not in text


def test_what_files_say_stays_text(make, page):
    folder = make(HOSTILE.replace("/", ""), input=HOSTILE)
    evaluate(folder, "confusion")
    found = page(folder)
    assert "script" not in [tag for tag, _ in found.elements]
    assert not any("onerror" in attributes for _, attributes in found.elements)
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
    text = " ".join(page(folder).text.split())
    assert "target \\ output07 012,3451 723" in text


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
