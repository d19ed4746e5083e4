"""Specifiers to files."""

from pathlib import Path

import pytest

from msdtool.data.specifiers import Location, Source, expand
from msdtool.errors import InputError


@pytest.fixture
def scans(tmp_path):
    """scan1, scan2, scan10, a hidden file, and a folder with one more."""
    for name in ("scan10.tif", "scan1.tif", "scan2.tif", ".hidden.tif", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "scan3.tif").touch()
    return tmp_path


def paths(specifier):
    return [location.path for location in expand(specifier)]


def names(specifier):
    return [path.name for path in paths(specifier)]


def refusal(specifier):
    with pytest.raises(InputError) as error:
        expand(specifier)
    return error.value.message


def test_a_glob_gives_natural_order(scans):
    assert names(f"{scans}/*.tif") == ["scan1.tif", "scan2.tif", "scan10.tif"]
    assert names(scans / "scan?.tif") == ["scan1.tif", "scan2.tif"]


def test_folders_are_compared_before_names(tmp_path):
    for name in ("b10/1.tif", "b2/7.tif", "b2/10.tif", "b/3.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in paths(f"{tmp_path}/*/*.tif")]
    assert found == ["b/3.tif", "b2/7.tif", "b2/10.tif", "b10/1.tif"]


def test_two_stars_look_into_folders(scans):
    assert names(f"{scans}/**/*3.tif") == ["scan3.tif"]
    assert sorted(names(f"{scans}/**/*.tif")) == sorted(
        ["scan1.tif", "scan2.tif", "scan10.tif", "scan3.tif"]
    )


def test_a_folder_stands_for_its_files_but_not_hidden_ones_and_folders(scans):
    assert names(scans) == ["notes.txt", "scan1.tif", "scan2.tif", "scan10.tif"]


def test_a_list_keeps_its_order(scans):
    specifier = [f"{scans}/more", f"{scans}/scan1*.tif", scans / "notes.txt"]
    assert names(specifier) == ["scan3.tif", "scan1.tif", "scan10.tif", "notes.txt"]


def test_a_file_is_itself_even_if_it_is_hidden(scans):
    assert paths(scans / ".hidden.tif") == [scans / ".hidden.tif"]


def test_a_file_may_hold_characters_that_globs_use(tmp_path):
    path = tmp_path / "scan[1].tif"
    path.touch()
    assert paths(str(path)) == [path]


def test_home_is_expanded(scans, monkeypatch):
    monkeypatch.setenv("HOME", str(scans))
    assert names("~/scan?.tif") == ["scan1.tif", "scan2.tif"]


def test_links_are_followed(scans, tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a.tif").symlink_to(scans / "scan1.tif")
    (tmp_path / "linked_folder").symlink_to(scans / "more")
    assert names(f"{tmp_path}/links/*.tif") == ["a.tif"]
    assert names(tmp_path / "linked_folder") == ["scan3.tif"]


def test_relative_paths_count_from_the_current_folder(scans, monkeypatch):
    monkeypatch.chdir(scans)
    assert paths("more/*") == [Path("more/scan3.tif")]


def test_what_matches_nothing_says_where_the_path_is_wrong(scans):
    assert refusal(f"{scans}/*.png") == (
        f"{scans}/*.png: no file matches; the folder {scans} holds 6 others, such as .hidden.tif"
    )
    assert refusal(f"{scans}/mor/*.tif") == (
        f"{scans}/mor/*.tif: no file matches; the folder {scans} has no 'mor' in it"
    )
    assert refusal(f"{scans}/scan3.tif").startswith(
        f"{scans}/scan3.tif: no such file or folder; the folder {scans} holds 6 others"
    )
    assert refusal(f"{scans}/*/none/*.tif") == f"{scans}/*/none/*.tif: no file matches"


def test_an_empty_folder_and_an_empty_list_are_refused(tmp_path):
    assert refusal(tmp_path) == f"{tmp_path}: the folder holds no files"
    assert (
        refusal(f"{tmp_path}/*") == f"{tmp_path}/*: no file matches; the folder {tmp_path} is empty"
    )
    assert refusal([]) == "the list of input paths is empty; name at least one file"


def test_every_item_of_a_list_must_name_a_file(scans):
    assert refusal([scans, f"{scans}/none.tif"]).startswith(f"{scans}/none.tif: no such file")


# Lists, and arrays inside files ----------------------------------------------------------------


def test_a_text_file_is_a_list_of_specifiers(scans):
    (scans / "list.txt").write_text("# the good ones\nscan10.tif\n\n  more/*  \nscan1.tif\n")
    assert names(f"@{scans}/list.txt") == ["scan10.tif", "scan3.tif", "scan1.tif"]
    (scans / "absolute.txt").write_text(f"{scans}/scan2.tif\nvolume.h5::/a/b\n")
    (scans / "volume.h5").touch()
    assert expand([f"@{scans}/absolute.txt"]) == [
        Location(scans / "scan2.tif"),
        Location(scans / "volume.h5", "/a/b"),
    ]


def test_a_list_that_is_wrong_is_named_with_its_line(scans):
    (scans / "list.txt").write_text("scan1.tif\nscan4.tif\n")
    assert refusal(f"@{scans}/list.txt").startswith(
        f"{scans}/list.txt:2: {scans}/scan4.tif: no such file or folder; the folder"
    )
    (scans / "list.txt").write_text("@other.txt")
    assert refusal(f"@{scans}/list.txt") == (
        f"{scans}/list.txt:1: @other.txt: a list cannot name another list"
    )
    (scans / "list.txt").write_text("# none\n")
    assert refusal(f"@{scans}/list.txt") == f"{scans}/list.txt: the list names no file"
    (scans / "list.txt").write_bytes(b"II*\0\xff\xfe")
    assert refusal(f"@{scans}/list.txt") == (
        f"{scans}/list.txt: is not a text file with a path per line"
    )
    assert refusal(f"@{scans}/lost.txt").startswith(f"{scans}/lost.txt: no such file; the folder")


def test_a_file_whose_name_begins_with_an_at_sign_is_a_file(scans, monkeypatch):
    (scans / "@list.txt").touch()
    monkeypatch.chdir(scans)
    assert names("@list.txt") == ["@list.txt"]


def test_two_colons_name_an_array_in_each_file(scans):
    for name in ("a10.h5", "a9.h5"):
        (scans / name).touch()
    assert expand(f"{scans}/a*.h5::/entry/data") == [
        Location(scans / "a9.h5", "/entry/data"),
        Location(scans / "a10.h5", "/entry/data"),
    ]
    assert [str(location) for location in expand(f"{scans}/a9.h5::data")] == [
        f"{scans}/a9.h5::data"
    ]
    assert refusal(f"{scans}/a9.h5::") == (
        f"{scans}/a9.h5::: expected a dataset's path after ::, as in scan.h5::/data"
    )
    assert refusal(f"{scans}/none.h5::/a").startswith(f"{scans}/none.h5: no such file")


def test_a_zarr_folder_is_one_file(scans):
    for name in ("a.zarr", "b.zarr/s0"):
        (scans / name).mkdir(parents=True)
    (scans / "b.zarr" / "s0" / ".zarray").touch()
    assert names(scans / "a.zarr") == ["a.zarr"]
    assert names(f"{scans}/*.zarr") == ["a.zarr", "b.zarr"]
    assert names(f"{scans}/b.zarr/*") == ["s0"]
    assert names(scans / "b.zarr/s0") == ["s0"]
    assert names(scans)[:2] == ["a.zarr", "b.zarr"]


def test_a_source_says_how_its_files_are_read(scans):
    source = Source([f"{scans}/scan1.tif", f"{scans}/scan2.tif"], "YXC", (3, 4, 5), "uint16")
    assert expand(source) == [
        Location(scans / name, "", "YXC", (3, 4, 5), "uint16")
        for name in ("scan1.tif", "scan2.tif")
    ]


def test_a_glob_asks_no_file_for_anything(scans, monkeypatch):
    """On a network disk, a round trip per file adds up."""
    (scans / "link.tif").symlink_to(scans / "scan1.tif")
    asked = []
    stat = Path.stat
    monkeypatch.setattr(Path, "stat", lambda self, **o: asked.append(self) or stat(self, **o))
    assert len(names(f"{scans}/*.tif")) == 4
    assert len(names(scans)) == 5
    assert not [path for path in asked if path.name.startswith("scan")]
