"""Kinds of data and ways to predict them, from the command line."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from msdtool.data.readers import read_image
from msdtool.data.specifiers import Location
from msdtool.predict import Predictor
from tests.helpers import LABELS, write_stack

pytest.importorskip("zarr", "3")

SHAPE = (4, 12, 13)


@pytest.fixture
def volume(tmp_path):
    """Slices in an HDF5 file, and what they are."""
    array = 10 + np.random.default_rng(3).normal(0, 2, SHAPE).astype(np.float32)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["entry/data"] = array
    return array


def expected(run, images, **options):
    predictor = Predictor.load(run, "cpu", **options)
    return [predictor(torch.from_numpy(image[None])).numpy() for image in images]


# Results -------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["tif", "h5", "zarr", "npy", "files"])
def test_results_are_of_the_format_that_is_asked_for(cli, regression_run, volume, tmp_path, format):
    source, out = f"{tmp_path}/v.h5::/entry/data", tmp_path / "out"
    result = cli("predict", regression_run, source, "-o", out, "--format", format)
    path = out / ("v" if format == "files" else f"v.{format}")
    assert (result.code, result.out) == (0, f"{path}\n")
    for index, image in enumerate(expected(regression_run, volume)):
        place = Location(path, "/entry/data" if format in ("h5", "zarr") else "")
        if format == "files":
            place, number = Location(path / f"v_{index}.tif"), 0
        else:
            number = index
        np.testing.assert_allclose(read_image(place, index=number), image, rtol=1e-5, atol=1e-5)


def test_an_unknown_format(refused, regression_run, volume, tmp_path):
    arguments = ["predict", regression_run, tmp_path / "v.h5", "-o", tmp_path / "out"]
    assert refused(*arguments, "--format", "jpg", code=2).startswith(
        "format: got 'jpg'; allowed: tif, h5, zarr, npy, mrc, nii, files, png"
    )


@pytest.fixture
def photos(tmp_path):
    """PNGs of three sizes, with 8 bits per pixel."""
    folder, rng = tmp_path / "photos", np.random.default_rng(2)
    folder.mkdir()
    for index in range(3):
        pixels = rng.integers(0, 256, (12 + index, 15), np.uint8)
        Image.fromarray(pixels).save(folder / f"photo_{index}.png")
    return folder


def read_png(path):
    with Image.open(path) as image:
        return np.array(image)


def test_labels_of_pngs_are_pngs_with_the_same_values(cli, segmentation_run, photos, tmp_path):
    out = tmp_path / "out"
    result = cli("predict", segmentation_run, photos, "-o", out, "--probabilities")
    assert result.out.split() == [f"{out}/photo_{index}.png" for index in range(3)]
    for index in range(3):
        image = read_png(photos / f"photo_{index}.png").astype(np.float32)
        (scores,) = expected(segmentation_run, [image])
        labels = read_png(out / f"photo_{index}.png")
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, np.array(LABELS)[scores.argmax(0)])
        # Float values do not fit in a PNG.
        assert tifffile.imread(out / f"photo_{index}_probabilities.tif").shape[1:] == labels.shape
    again = cli("predict", segmentation_run, photos, "-o", out, "--missing", "--probabilities")
    assert (again.code, again.out) == (0, "")


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_integers_of_a_regression_are_pngs(cli, regression_run, photos, tmp_path, dtype):
    options = ["--format", "png", "--dtype", dtype, "--scale", "0:20"]
    result = cli("predict", regression_run, photos, "-o", tmp_path / "out", *options)
    assert result.code == 0, result.err
    path = tmp_path / "out" / "photo_0.png"
    image = read_png(photos / "photo_0.png").astype(np.float32)
    limit = np.iinfo(dtype).max
    (output,) = expected(regression_run, [image])
    np.testing.assert_array_equal(
        read_png(path), np.rint(output[0].astype(np.float64) * limit / 20).clip(0, limit)
    )
    with Image.open(path) as image:
        facts = json.loads(image.text["msdtool"])
    assert facts["slope"] == pytest.approx(20 / limit)
    assert facts["command"].endswith(f"--dtype {dtype} --scale 0:20")


def test_values_of_pngs_are_tiffs_unless_integers_are_asked_for(
    cli, regression_run, photos, tmp_path
):
    plain = cli("predict", regression_run, photos / "photo_0.png", "-o", tmp_path / "a")
    assert plain.out == f"{tmp_path}/a/photo_0.tif\n"
    of_input = ["--dtype", "input", "-o", tmp_path / "b"]
    assert cli("predict", regression_run, photos / "photo_0.png", *of_input).out == (
        f"{tmp_path}/b/photo_0.png\n"
    )
    (output,) = expected(regression_run, [read_png(photos / "photo_0.png").astype(np.float32)])
    np.testing.assert_array_equal(
        read_png(tmp_path / "b" / "photo_0.png"), np.rint(output[0]).clip(0, 255)
    )


def test_a_png_of_floats_or_of_a_stack_is_refused_with_the_reason(
    refused, regression_run, segmentation_run, photos, volume, tmp_path
):
    png = ["-o", tmp_path / "out", "--format", "png"]
    assert refused("predict", regression_run, photos, *png, code=2) == (
        "format: png: a PNG holds uint8 or uint16, not float32; choose the dtype uint8 or uint16 "
        "with a scale, or the format tif (--format, --dtype)"
    )
    assert refused("predict", segmentation_run, tmp_path / "v.h5", *png, code=2) == (
        f"format: png: {tmp_path}/v.h5: a PNG holds one image, not 4 images; choose the format "
        "tif, or files (--format, --dtype)"
    )


def test_one_result_has_the_name_that_is_given(cli, refused, segmentation_run, photos, tmp_path):
    one, out = photos / "photo_0.png", tmp_path / "mine.png"
    assert cli("predict", segmentation_run, one, "-o", out).out == f"{out}\n"
    assert set(np.unique(read_png(out))) <= set(LABELS)
    several = ["predict", segmentation_run, photos, "-o"]
    assert refused(*several, tmp_path / "b.png", code=2) == (
        f"{tmp_path}/b.png: is a single file, but there are 3 inputs; name a folder, or make one "
        "volume of them, slice by slice (--stack)"
    )
    assert refused(*several, tmp_path / "b.jpg", code=2).startswith(
        f"{tmp_path}/b.jpg: results are not written as .jpg; choose one of .tif, "
    )
    contradiction = [tmp_path / "b.png", "--format", "tif"]
    assert refused("predict", segmentation_run, one, "-o", *contradiction, code=2).startswith(
        f"{tmp_path}/b.png: has the suffix of the format png, and the format is to be tif"
    )


# Stacks, datasets and splits -----------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["tif", "h5", "zarr", "npy"])
def test_a_folder_of_slices_becomes_one_volume(cli, regression_run, volume, tmp_path, suffix):
    scan = write_stack(tmp_path / "scan", list(volume))
    out = tmp_path / f"volume.{suffix}"
    options = ["-o", out, "--stack"]
    listed = cli("predict", regression_run, scan, *options, "--missing").out
    assert listed.split() == [str(file) for file in sorted(scan.iterdir())]
    result = cli("predict", regression_run, "-", *options, stdin=listed)
    assert (result.code, result.out) == (0, f"{out}\n"), result.err
    for index, image in enumerate(expected(regression_run, volume)):
        np.testing.assert_allclose(read_image(out, index=index), image, rtol=1e-5, atol=1e-5)
    assert cli("predict", regression_run, scan, *options, "--missing").code == 0


def test_a_stack_is_named_by_its_folder_and_comes_apart_again(
    cli, segmentation_run, volume, tmp_path
):
    scan = write_stack(tmp_path / "scan", list(volume))
    result = cli("predict", segmentation_run, scan, "-o", tmp_path / "out", "--stack")
    assert result.out == f"{tmp_path}/out/scan.tif\n"
    labels = tifffile.imread(tmp_path / "out" / "scan.tif")
    assert labels.shape == SHAPE
    tifffile.imwrite(tmp_path / "volume.tif", volume, photometric="minisblack")
    apart = ["-o", tmp_path / "out", "--format", "files"]
    assert cli("predict", segmentation_run, tmp_path / "volume.tif", *apart).code == 0
    files = sorted((tmp_path / "out" / "volume").glob("*.tif"))
    assert np.array_equal(np.stack([tifffile.imread(file) for file in files]), labels)


def test_slices_of_one_stack_have_one_size(refused, segmentation_run, photos, tmp_path):
    arguments = ["predict", segmentation_run, photos, "-o", tmp_path / "v.tif", "--stack"]
    assert refused(*arguments, code=3) == (
        f"{photos}/photo_1.png: has 13 x 15 pixels, and {photos}/photo_0.png 12 x 15: slices of "
        "one stack must have the same size"
    )


def test_several_datasets_of_one_file_have_results_of_their_own(
    cli, regression_run, volume, tmp_path
):
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["scan/low"], file["scan/high"] = volume, volume + 1
    inputs = [f"{tmp_path}/two.h5::/scan/{name}" for name in ("low", "high")]
    out = tmp_path / "out"
    result = cli("predict", regression_run, *inputs, "-o", out)
    assert result.out.split() == [f"{out}/two_scan_low.h5", f"{out}/two_scan_high.h5"]
    for path, images in zip(result.out.split(), (volume, volume + 1), strict=True):
        for index, image in enumerate(expected(regression_run, images)):
            np.testing.assert_allclose(
                read_image(Path(path), index=index), image, rtol=1e-5, atol=1e-5
            )
    # One of them alone has the same name, so that what is missing can be made up for.
    (out / "two_scan_low.h5").unlink()
    listed = cli("predict", regression_run, *inputs, "-o", out, "--missing").out
    assert listed == f"{inputs[0]}\n"
    assert cli("predict", regression_run, "-", "-o", out, stdin=listed).out == (
        f"{out}/two_scan_low.h5\n"
    )


def test_symmetries_are_averaged_when_told(cli, regression_run, volume, tmp_path):
    arguments = ["predict", regression_run, tmp_path / "v.h5", "--format", "npy"]
    for options, name in (([], "plain"), (["--tta"], "averaged")):
        assert cli(*arguments, *options, "-o", tmp_path / name).code == 0
    plain, averaged = (np.load(tmp_path / name / "v.npy") for name in ("plain", "averaged"))
    images = np.stack(expected(regression_run, volume, tta=True))[:, 0]
    np.testing.assert_allclose(averaged, images, rtol=1e-5, atol=1e-5)
    assert np.abs(averaged - plain).max() > 1e-3


# Memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["much", "0", "-2GB", "2 GBs"])
def test_a_memory_that_is_not_a_size(refused, regression_run, volume, tmp_path, size):
    arguments = ["predict", regression_run, tmp_path / "v.h5", "-o", tmp_path / "out"]
    assert refused(*arguments, f"--memory={size}", code=2).startswith(
        f"memory: got {size!r}; expected a size such as 2GB, 1.5GiB or 800MB"
    )


@pytest.mark.parametrize(("size", "shown"), [("5", "5e-06"), ("50MB", "50")])
def test_too_little_memory(refused, regression_run, volume, tmp_path, size, shown):
    arguments = ["predict", regression_run, tmp_path / "v.h5", "-o", tmp_path / "out"]
    found = refused(*arguments, "--memory", size, "--device", "cpu", code=2)
    assert found.startswith(f"memory: {shown} MB is below the program's baseline memory use, ")
    assert "00 MB or more" in found


# Sources -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("write", "mapping"),
    [
        (lambda path, array: np.save(path / "a.npy", array.T), "path: {}/a.npy, axes: XYZ"),
        (
            lambda path, array: array.astype(">f4").tofile(path / "a.raw"),
            "path: {}/a.raw, shape: [4, 12, 13], dtype: '>f4'",
        ),
        (
            lambda path, array: [np.save(path / f"a{k}.npy", array[k]) for k in range(4)],
            "path: [{0}/a0.npy, '{0}/a[1-3].npy']",
        ),
    ],
    ids=["axes", "raw", "list"],
)
def test_a_source_may_be_a_mapping(cli, regression_run, volume, tmp_path, write, mapping):
    write(tmp_path, volume)
    out = tmp_path / "out"
    source = f"{{{mapping.format(tmp_path)}}}"
    result = cli("predict", regression_run, source, "-o", out, "--format", "npy")
    assert result.code == 0, result.err
    found = [np.load(path) for path in map(str, result.out.split())]
    images = np.stack(expected(regression_run, volume))[:, 0]
    np.testing.assert_allclose(np.concatenate([found[0]] if len(found) == 1 else [found]), images,
                               rtol=1e-5, atol=1e-5)  # fmt: skip


BAD_SOURCES = {
    "{path: v.h5, axs: ZYX}": (
        2, "axs: unknown key; did you mean 'axes'? Allowed: path, axes, shape, dtype"),
    "{axes: ZYX}": (2, "path: missing: a glob, folder, file, or list of these"),
    "{path: v.h5, axes: ZZX}": (
        2, "axes: got 'ZZX'; expected a letter per axis, each once: X, Y, Z, C (channels), T "
        "(counts images), such as ZYX or YXC"),
    "{path: v.h5, shape: [4, 12, 13]}": (
        2, "a raw file needs both shape and dtype, any other file neither"),
    "{path: v.h5, shape: [4, 12, 0], dtype: uint8}": (
        2, "shape[2]: got 0; expected a number not less than 1"),
    "{path: v.h5, shape: [4], dtype: float}": (
        2, "dtype: got 'float'; expected a dtype such as uint16, float32, or >u2 "
        "(big-endian)"),
    "{path: v.h5": (2, "not valid YAML; expected {path: ..., axes: ...}"),
}  # fmt: skip


@pytest.mark.parametrize("source", BAD_SOURCES)
def test_a_mapping_that_is_wrong(refused, regression_run, volume, tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    code, message = BAD_SOURCES[source]
    found = refused("predict", regression_run, source, "-o", "out", code=code)
    assert found == f"{source}: {message}"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "{path: v.h5, axes: CYX}",
            "v.h5: the image has 4 channels, the model was trained on images with 1",
        ),
        (
            "{path: v.h5, axes: YX}",
            "v.h5: axes: YX names 2 axes, the array has 3, shape (4, 12, 13); name each of them",
        ),
        ("v.h5::/data", "v.h5::/data: the file has no dataset of that name; it holds /entry/data"),
        (
            "a.npz",
            "a.npz: an .npz file can only be read as a whole; save its array as .npy",
        ),
    ],
)
def test_a_source_that_does_not_fit_its_file(
    refused, regression_run, volume, tmp_path, monkeypatch, source, message
):
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", volume)
    assert refused("predict", regression_run, source, "-o", "out", code=3) == message


def test_a_list_of_files_on_the_command_line(cli, regression_run, volume, tmp_path):
    write_stack(tmp_path / "scan", volume)
    (tmp_path / "list.txt").write_text("scan/image_002.tif\n# not this one: scan/image_001.tif\n")
    result = cli("predict", regression_run, f"@{tmp_path}/list.txt", "-o", tmp_path / "out")
    assert (result.code, result.out) == (0, f"{tmp_path}/out/image_002.tif\n")
    found = tifffile.imread(tmp_path / "out" / "image_002.tif")
    (image,) = expected(regression_run, volume[2:3])
    np.testing.assert_allclose(found, image[0], rtol=1e-5, atol=1e-5)
