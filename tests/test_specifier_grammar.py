"""The grammar of path specifiers."""

from pathlib import Path

import pytest

from msdtool.data.specifiers import expand
from msdtool.specifier_grammar import (
    Item,
    Location,
    Source,
    anchor,
    anchor_path,
    detach,
    parse_item,
    without_folder,
)

HERE = Path("/here")


@pytest.mark.parametrize(
    ("text", "item"),
    [
        ("scan/*.tif", Item("scan/*.tif")),
        ("@list.txt", Item("list.txt", is_list=True)),
        ("@~/list.txt", Item("~/list.txt", is_list=True)),
        ("scan.h5::/entry/data", Item("scan.h5", "/entry/data")),
        ("a*.zarr::s0::x", Item("a*.zarr", "s0::x")),
        ("scan.h5::", Item("scan.h5", "")),
        ("scan.h5::/./entry//data/.", Item("scan.h5", "/entry/data")),
        ("scan.h5::entry/data/", Item("scan.h5", "entry/data")),
        ("scan.h5::/.", Item("scan.h5", "/")),
    ],
)
def test_an_item_is_taken_apart(text, item):
    assert parse_item(text) == item


@pytest.mark.parametrize(
    ("text", "anchored"),
    [
        ("scan/*.tif", "/here/scan/*.tif"),
        ("/scan/*.tif", "/scan/*.tif"),
        ("~/scan", "~/scan"),
        ("@list.txt", "@/here/list.txt"),
        ("@/list.txt", "@/list.txt"),
        ("@~/list.txt", "@~/list.txt"),
        ("scan.h5::/data", "/here/scan.h5::/data"),
        ("", ""),
    ],
)
def test_relative_paths_are_anchored_whatever_precedes_them(text, anchored):
    assert anchor(text, HERE) == anchored


def test_a_folders_own_name_never_becomes_a_pattern():
    assert anchor("*.tif", Path("/a[1]")) == "/a[[]1]/*.tif"
    assert anchor("x.tif", Path("/a[1]")) == "/a[1]/x.tif"


@pytest.mark.parametrize("folder", ["/here", "/a[1]/b*"])
@pytest.mark.parametrize(
    "text", ["scan/*.tif", "x[1].tif", "@list.txt", "~/scan", "../a.h5::/data", "."]
)
def test_a_detached_path_is_what_was_anchored(text, folder):
    assert detach(anchor(text, Path(folder)), Path(folder)) == text


def test_only_home_has_a_meaning_in_a_plain_path():
    assert anchor_path("@runs[1]", HERE) == "/here/@runs[1]"
    assert anchor_path("~/runs", HERE) == "~/runs"


@pytest.mark.parametrize("line", ["*.tif", "b[1].tif", "b?1?.tif"])
def test_a_list_in_a_folder_with_brackets_names_files_beside_it(tmp_path, line):
    folder = tmp_path / "a[1]"
    folder.mkdir()
    (folder / "b[1].tif").touch()
    (folder / "list.txt").write_text(line)
    assert expand(f"@{folder}/list.txt") == [Location(folder / "b[1].tif")]


def test_a_location_is_a_source_of_one_file():
    location = Location(Path("a.raw"), shape=(2, 3), dtype="uint8")
    assert isinstance(location, Source)
    assert expand(location) == expand([location]) == [location]
    assert len({location, Location(Path("a.raw"), shape=(2, 3), dtype="uint8")}) == 1
    assert location != Location(Path("a.raw"), shape=(3, 2), dtype="uint8")


@pytest.mark.parametrize(
    "name, short",
    [
        ("a/b/c.tif", "c.tif"),
        ("a/b.h5::/entry/data[3]", "b.h5::/entry/data[3]"),
        ("c.tif[0:4, 2:8]", "c.tif[0:4, 2:8]"),
    ],
)
def test_the_name_of_an_image_without_its_folder(name, short):
    assert without_folder(name) == short
