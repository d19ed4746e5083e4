"""Names of files that terminals, formulas, markup or encodings would stumble over."""

import io
import json
import os
import sys
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import tifffile

from msdtool.cli import console

from ..forked import Program
from ..helpers import smooth_image, write_experiment, write_noisy_pairs

PATIENCE_SECONDS = 600.0
NAMES = {
    "accents": "été.tif",
    "Latin-1": os.fsdecode(b"scan\xe4.tif"),
    "emoji": "\U0001f600.tif",
    "markup": "[red]b[",
    "markup's end": "a[bold].tif",
    "formula": "a$x^$.tif",
    "underscore": "_a.tif",
    "braces": "{x}{.tif",
    "escape sequence": "a\x1b[31mb.tif",
    "line end": "a\nb.tif",
    "glob": "a*[b]?.tif",
    "colons": "a::b.tif",
    "list": "@a.tif",
}


@contextmanager
def strict_output(encoding):
    """Results go to a pipe, yielded, that refuses what its encoding does not have."""
    pipe = io.BytesIO()
    stream = io.TextIOWrapper(pipe, encoding=encoding, errors="strict")
    with redirect_stdout(stream):
        yield pipe
        stream.flush()
        stream.detach()  # which would close the pipe


each_encoding = pytest.mark.parametrize("encoding", ["ascii", "utf-8"])


@pytest.mark.parametrize(
    ("name", "encoding"),
    [*((name, "ascii") for name in NAMES), *((name, "utf-8") for name in ("emoji", "Latin-1"))],
)
def test_any_name_is_read_predicted_drawn_and_reported(
    cli, regression_run, tmp_path, encoding, name
):
    pairs = write_noisy_pairs(tmp_path / "pairs", 2)
    for kind in pairs.values():
        Path(kind, "image_000.tif").rename(Path(kind, NAMES[name]))
    images, targets = pairs["input"], pairs["target"]
    config = write_experiment(tmp_path / "a.yaml", {"data": {"train": pairs}})
    figure = ["--input", images, "--target", targets, "--figure", tmp_path / "a.png"]
    for command in (
        ["check", config],
        ["check", config, "--json"],
        ["predict", regression_run, images, "-o", tmp_path / "out"],
        ["predict", regression_run, images, "-o", tmp_path / "more", "--json"],
        ["evaluate", regression_run, *figure, "--json"],
    ):
        with strict_output(encoding):
            result = cli(*command)
        assert result.code == 0, result
    stem = Path(NAMES[name]).stem
    assert (tmp_path / "out" / f"{stem}.tif").is_file()


@each_encoding
def test_json_restores_a_name_in_any_encoding(cli, regression_run, tmp_path, encoding):
    image = tmp_path / os.fsdecode(b"\xc3\xa9\xe4.tif")  # é in UTF-8, ä in Latin-1
    tifffile.imwrite(image, smooth_image((20, 24), np.random.default_rng(0)))
    with strict_output(encoding) as pipe:
        assert cli("predict", regression_run, image, "-o", tmp_path / "out", "--json").code == 0
    assert json.loads(pipe.getvalue())["input"] == str(image)


@each_encoding
def test_results_pass_the_bytes_of_a_name(encoding):
    with strict_output(encoding) as pipe:
        console.accept_all_names()
        console.result(os.fsdecode(b"\xc3\xa9\xe4.tif"))
    character = b"\\xe9" if encoding == "ascii" else b"\xc3\xa9"
    assert pipe.getvalue() == character + b"\xe4.tif\n"


def test_names_from_stdin_may_have_any_bytes(monkeypatch):
    name = b"scan\xe4.tif\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(name), encoding="utf-8"))
    console.accept_all_names()
    assert os.fsencode(sys.stdin.read()) == name


def test_a_name_does_not_write_to_the_terminal(cli, tmp_path):
    result = cli("info", tmp_path / "a\x1b[31mb\x9b.pt")
    assert result.err.startswith(f"error: {tmp_path}/a\\x1b[31mb\\x9b.pt: no such run directory")


def test_an_experiment_may_lie_in_a_folder_of_any_name(tmp_path):
    """In processes of their own: pytest cannot pass such names on from one of its own."""
    folder = tmp_path / os.fsdecode(b"f\xe4")
    pairs = write_noisy_pairs(folder / "pairs", 2)
    changes = {"data": {"train": {"input": "pairs/noisy", "target": "pairs/clean"}}}
    config = write_experiment(folder / "a.yaml", changes)
    assert pairs
    for arguments in (["train", config], ["train", config, "--resume"], ["info", folder / "run"]):
        program = Program(*arguments, output=tmp_path / "said")
        assert program.wait(PATIENCE_SECONDS) == 0, ascii((tmp_path / "said").read_bytes())


@pytest.mark.parametrize("value", ['"a\\0b"', '"@\\0"', '"\\uD800"'])
@pytest.mark.parametrize("key", ["data.train.input", "run.directory"])
def test_what_cannot_be_a_name_is_refused(cli, tmp_path, key, value):
    pairs = write_noisy_pairs(tmp_path / "pairs", 1)
    config = write_experiment(tmp_path / "a.yaml", {"data": {"train": pairs}})
    result = cli("train", config, "--set", f"{key}={value}")
    assert result.code == 2
    assert result.err.startswith(
        f"error: --set {key}={value}: the value is not valid YAML: cannot read "
    )
