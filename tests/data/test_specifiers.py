"""Specifiers to files."""

import os
from pathlib import Path

import pytest

from msdtool.data.readers import read_image
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


def test_a_number_in_place_of_a_suffix_is_of_the_name(tmp_path):
    for number in (10, 8, 9):
        (tmp_path / f"scan.{number}").touch()
    assert names(tmp_path) == ["scan.8", "scan.9", "scan.10"]


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


def test_a_folder_stands_for_its_images_but_not_hidden_ones_and_folders(scans):
    assert names(scans) == ["scan1.tif", "scan2.tif", "scan10.tif"]


@pytest.mark.parametrize(
    "name",
    [
        *("Thumbs.db", "ehthumbs.db", "desktop.ini", "Desktop.INI", "Icon\r", ".DS_Store"),
        *("._scan1.tif", "scan1.tfw", "scan1.tif.aux.xml", "scan1.tif.ovr", "scan1.tif.msk"),
        *("scan1.txt", "scan1.json", "scan.log", "README", "README.md", "SHA256SUMS", "a.csv"),
        *("scan1.tif~", "scan1.tif.bak", "scan3.tif.part", "x.companion.ome"),
    ],
)
def test_what_lies_beside_images_is_left_out_and_named(scans, caplog, name):
    (scans / name).write_bytes(b"II*\0")
    with caplog.at_level("INFO"):
        for specifier in (scans, f"{scans}/*", f"{scans}/**"):
            found = names(specifier)
            assert name not in found
            assert {"scan1.tif", "scan2.tif", "scan10.tif"} <= set(found)
    assert name.startswith(".") or name in caplog.text
    assert paths(scans / name) == [scans / name]


def test_many_bystanders_are_counted(scans, caplog):
    for number in range(4):
        (scans / f"scan{number}.xml").touch()
    with caplog.at_level("INFO"):
        names(scans)
    assert caplog.messages == [
        f"{scans}: ignored files that are not images: notes.txt, scan0.xml, scan1.xml ... (5 files)"
    ]


def test_a_pattern_may_ask_for_any_suffix(scans):
    """Raw pixels may be in a file of any name."""
    (scans / "more" / "notes.txt").touch()
    assert names(f"{scans}/*.txt") == ["notes.txt"]
    assert names(f"{scans}/*/notes.txt") == ["notes.txt"]
    (scans / "more" / ".hidden.tif").touch()
    assert names(f"{scans}/*/.hidden.tif") == [".hidden.tif"]


@pytest.mark.parametrize("suffix", ["", ".tif", ".dat", ".gtiff", ".001"])
def test_other_files_are_images_until_they_are_read(scans, suffix):
    (scans / f"scan5{suffix}").touch()
    assert f"scan5{suffix}" in names(scans)


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


@pytest.mark.parametrize("specifier", ["", "*.tif", "*", "**", "**/*.tif", "lost.tif"])
def test_a_link_to_what_is_not_there_is_refused(scans, specifier):
    (scans / "lost.tif").symlink_to("/nowhere/7.tif")
    assert refusal(f"{scans}/{specifier}") == (
        f"{scans}/lost.tif: is a link to /nowhere/7.tif, which is not there; fetch that file or "
        "connect its disk, or remove the link"
    )
    assert names(f"{scans}/scan*.tif") == ["scan1.tif", "scan2.tif", "scan10.tif"]


@pytest.mark.parametrize("name", ["case2", "case.2", "scan.2024"])
@pytest.mark.parametrize(
    "specifier",
    ["*/*.tif", "**/*.tif", "*/scan3.tif", "**/x.tif", "*/sub/*.tif", "*/sub/x.tif", "*/s*/x.tif"],
)
def test_a_link_to_a_folder_that_is_not_there_is_refused(scans, specifier, name):
    (scans / "more" / "sub").mkdir()
    (scans / "more" / "sub" / "x.tif").touch()
    (scans / name).symlink_to("/nowhere/case2")
    assert refusal(f"{scans}/{specifier}").startswith(f"{scans}/{name}: is a link to /nowhere")


@pytest.mark.parametrize("name", ["lost.png", "lost.nii.gz", "lost.csv"])
@pytest.mark.parametrize("specifier", ["*/scan3.tif", "**/scan3.tif"])
def test_a_link_to_a_file_is_not_taken_for_one_to_a_folder(scans, specifier, name):
    (scans / name).symlink_to("/nowhere/file")
    assert names(f"{scans}/{specifier}") == ["scan3.tif"]


@pytest.mark.parametrize("specifier", ["", "*.tif", "**/*.tif"])
def test_a_pipe_among_images_is_listed_so_that_reading_refuses_it(scans, specifier):
    os.mkfifo(scans / "scan5.tif")
    (pipe,) = [path for path in paths(f"{scans}/{specifier}") if path.name == "scan5.tif"]
    with pytest.raises(InputError, match=r"scan5\.tif: .*it is a pipe; save what it contains"):
        read_image(pipe)


def test_links_to_what_is_no_image_may_lead_nowhere(scans):
    (scans / "old.log").symlink_to("/nowhere/old.log")
    (scans / ".lock").symlink_to("host:1234")
    assert names(scans) == ["scan1.tif", "scan2.tif", "scan10.tif"]


def test_relative_paths_count_from_the_current_folder(scans, monkeypatch):
    monkeypatch.chdir(scans)
    assert paths("more/*") == [Path("more/scan3.tif")]


def test_what_matches_nothing_says_where_the_path_is_wrong(scans):
    assert refusal(f"{scans}/*.png") == (
        f"{scans}/*.png: no image matches; the folder {scans} holds 6 others, such as .hidden.tif"
    )
    assert refusal(f"{scans}/mor/*.tif") == (
        f"{scans}/mor/*.tif: no image matches; the folder {scans} has no 'mor' in it"
    )
    assert refusal(f"{scans}/scan3.tif").startswith(
        f"{scans}/scan3.tif: no such file or folder; the folder {scans} holds 6 others"
    )
    assert refusal(f"{scans}/*/none/*.tif") == f"{scans}/*/none/*.tif: no image matches"


def test_an_empty_folder_and_an_empty_list_are_refused(tmp_path):
    assert refusal(tmp_path) == f"{tmp_path}: the folder holds no images"
    for name in ("noisy", ".hidden", "clean"):
        (tmp_path / "scan" / name).mkdir(parents=True)
    assert refusal(tmp_path / "scan") == (
        f"{tmp_path}/scan: the folder holds no images, but the folders clean, noisy; name one of "
        "them"
    )
    (tmp_path / "empty").mkdir()
    assert (
        refusal(f"{tmp_path}/empty/*")
        == f"{tmp_path}/empty/*: no image matches; the folder {tmp_path}/empty is empty"
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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_a_list_may_come_from_any_editor(scans, encoding, ending):
    (scans / "bêta.tif").touch()
    text = f"scan10.tif{ending}bêta.tif{ending}"
    (scans / "list.txt").write_bytes(text.encode(encoding))
    assert names(f"@{scans}/list.txt") == ["scan10.tif", "bêta.tif"]


@pytest.mark.parametrize("folder", ["scan [2]", "a*b", "what?", "[x]", "{a,b}"])
def test_the_folder_of_a_list_is_never_a_pattern(tmp_path, folder):
    place = tmp_path / folder
    (place / "sub").mkdir(parents=True)
    for name in ("1.tif", "2.tif", "scan[1].tif", "sub/3.tif"):
        (place / name).touch()
    (place / "list.txt").write_text("?.tif\nscan[1].tif\nsub/*.tif\n*.tif::inner\n")
    found = expand(f"@{place}/list.txt")
    assert [(location.path.name, location.inner) for location in found] == [
        *(("1.tif", ""), ("2.tif", ""), ("scan[1].tif", ""), ("3.tif", "")),
        *(("1.tif", "inner"), ("2.tif", "inner"), ("scan[1].tif", "inner")),
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
    for content in (b"II*\0\xff\xfe", b"II*\0"):
        (scans / "list.txt").write_bytes(content)
        assert refusal(f"@{scans}/list.txt") == (
            f"{scans}/list.txt: is not a text file with one path per line"
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
    source = Source(
        [f"{scans}/scan1.tif", f"{scans}/scan2.tif"], axes="YXC", shape=(3, 4, 5), dtype="uint16"
    )
    assert expand(source) == [
        Location(scans / name, axes="YXC", shape=(3, 4, 5), dtype="uint16")
        for name in ("scan1.tif", "scan2.tif")
    ]


def test_a_glob_asks_no_file_for_anything(scans, monkeypatch):
    """On a network disk, a round trip per file adds up."""
    (scans / "link.tif").symlink_to(scans / "scan1.tif")
    asked = []
    stat = Path.stat
    monkeypatch.setattr(Path, "stat", lambda self, **o: asked.append(self) or stat(self, **o))
    assert len(names(f"{scans}/*.tif")) == 4
    assert len(names(scans)) == 4
    assert not [path for path in asked if path.name.startswith("scan")]


def test_a_list_that_is_a_folder_says_so(tmp_path):
    with pytest.raises(InputError) as error:
        expand(f"@{tmp_path}")
    assert error.value.message == f"{tmp_path}: is a folder, not a file"


def test_links_in_a_circle_are_followed_once(tmp_path):
    """By glob, two links to a folder above make 2^40 names of each file."""
    inner = tmp_path / "outer" / "inner.d"
    inner.mkdir(parents=True)
    (inner / "a.tif").touch()
    for name in ("one.d", "two.d"):
        (inner / name).symlink_to("..")
    for specifier in (f"{tmp_path}/**/*.tif", f"{tmp_path}/**", f"{tmp_path}/outer/**/a.tif"):
        assert [item.path for item in expand(specifier)] == [inner / "a.tif"]


def test_folders_may_be_deeper_than_python_s_stack(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(1200):
        Path("d").mkdir()
        os.chdir("d")
    Path("a.tif").touch()
    os.chdir(tmp_path)
    assert [item.path.name for item in expand("**/*.tif")] == ["a.tif"]
    os.chdir(Path(*["d"] * 600))
    os.chdir(Path(*["d"] * 600))
    Path("a.tif").unlink()
    for _ in range(1200):  # pytest could not
        os.chdir("..")
        Path("d").rmdir()


def test_a_pattern_below_what_is_no_folder_matches_nothing(tmp_path):
    (tmp_path / "file").touch()
    for name in ("file", "nothing"):
        with pytest.raises(InputError, match="no image matches"):
            expand(f"{tmp_path}/{name}/**/*.tif")


def test_a_pattern_that_matches_folders_alone_is_explained(scans):
    (scans / "part_1").mkdir()
    with pytest.raises(InputError) as error:
        expand(f"{scans}/part_*")
    assert error.value.message == (
        f"{scans}/part_*: matches folders, such as {scans}/part_1, and no image; name a folder "
        f"itself, or the images in them: {scans}/part_*/*"
    )
