"""msdtool resolution."""

import json

import pytest

from tests.helpers import PNG_START, write_stack
from tests.test_resolution import halves


@pytest.fixture
def images(tmp_path):
    for name, images in zip(("even", "odd"), zip(*halves(2, 64, 64), strict=True), strict=True):
        write_stack(tmp_path / name, images)
    return tmp_path


def test_it_prints_the_resolution_and_draws_the_rings(cli, images):
    figure = images / "rings.png"
    result = cli("resolution", images / "even", images / "odd", "--figure", figure)
    assert result.code == 0
    lines = [line.split() for line in result.out.splitlines()]
    assert [line[0] for line in lines] == ["threshold", "half-bit", "1/7"]
    assert all(4 < float(line[1]) < 6 and line[2] == "pixels" for line in lines[1:])
    assert figure.read_bytes().startswith(PNG_START)


def test_json_has_the_curve(cli, images):
    found = json.loads(cli("resolution", images / "even", images / "odd", "--json").out)
    assert found["pairs"] == 2
    assert len(found["frequencies"]) == len(found["correlation"]) == len(found["half_bit"]) == 32
    assert 4 < found["resolution"]["half-bit"] < 6


def test_names_that_disagree_are_said(cli, images):
    (images / "odd" / "image_001.tif").rename(images / "odd" / "image_007.tif")
    result = cli("resolution", images / "even", images / "odd")
    assert "image_001.tif is paired with image_007.tif" in result.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ndim", 4], "--ndim: got 4; allowed: 2, 3"),
        (["--figure", "EVEN"], "exists and is something else"),
    ],
)
def test_what_cannot_be_is_refused(cli, images, options, message):
    file = images / "even" / "image_000.tif"
    options = [file if option == "EVEN" else option for option in options]
    result = cli("resolution", images / "even", images / "odd", *options)
    assert result.code == 2
    assert message in result.err


def test_halves_that_have_nothing_in_common_have_none(cli, tmp_path):
    image = next(halves(1, 64, 64))[0]
    write_stack(tmp_path / "even", [image])
    write_stack(tmp_path / "odd", [-image])
    result = cli("resolution", tmp_path / "even", tmp_path / "odd")
    assert "none: the halves do not correlate" in result.out
