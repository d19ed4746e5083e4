"""Images that cannot be used: one clear message, exit code 3, no network trained on them."""

import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from msdtool.data.samples import TrainingSamples
from msdtool.errors import InputError

from ..helpers import (
    write_experiment,
    write_image,
)
from .conftest import BEGUN

SIZE = (20, 24)


def put(path, image):
    write_image(path, image)


def truncate(path, kept=0.6):
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])


def remove(*paths):
    for path in paths:
        path.unlink()


# name: (what happens to the folder, the message in which {} is the folder)
PLACES = {
    "glob that matches nothing": (
        lambda f: [path.rename(path.with_suffix(".dat")) for path in (f / "t/noisy").iterdir()],
        ["--set", "data.train.input={}/t/noisy/*.tif"],
        "{}/t/noisy/*.tif: no image matches; the folder {}/t/noisy holds 3 others, such as "
        "image_000.dat",
    ),
    "missing folder": (
        lambda f: (f / "t/noisy").rename(f / "t/loud"),
        [],
        "{}/t/noisy: no such file or folder; the folder {}/t holds 2 others, such as clean",
    ),
    "missing folder above": (
        lambda f: None,
        ["--set", "data.train.input={}/train/noisy/*.tif"],
        "{}/train/noisy/*.tif: no image matches; the folder {} has no 'train' in it",
    ),
    "empty folder": (
        lambda f: remove(*(f / "t/clean").iterdir()),
        [],
        "{}/t/clean: the folder holds no images",
    ),
    "unequal counts": (
        lambda f: remove(f / "t/clean/image_001.tif"),
        [],
        "found 3 input images ({}/t/noisy/image_000.tif ...) but 2 target images "
        "({}/t/clean/image_000.tif ...); each input needs one, in the same natural order",
    ),
    "unequal counts for validation": (
        lambda f: remove(f / "t/noisy/image_000.tif"),
        ["--set", "data.validation={{input: {}/v/noisy, target: {}/t/clean}}",
         "--set", "data.train={{input: {}/v/noisy, target: {}/v/clean}}"],
        "found 1 input images ({}/v/noisy/image_000.tif ...) but 3 target images",
    ),
    "too few masks": (
        lambda f: None,
        ["--set", "data.train.mask={}/v/clean"],
        "found 3 input images ({}/t/noisy/image_000.tif ...) but 1 mask images",
    ),
    "nothing to hold out": (
        lambda f: None,
        ["--set", "data.train={{input: {}/v/noisy, target: {}/v/clean}}",
         "--set", "data.validation={{fraction: 0.5}}"],
        "data.validation.fraction needs at least 2 training images, found 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("command", ["check", "train"])
def test_files_that_cannot_be_found_or_paired(refused, noisy, tmp_path, command, name):
    change, options, message = PLACES[name]
    change(tmp_path)
    options = [option.replace("{{", "\0").replace("{}", str(tmp_path)).replace("\0", "{")
               .replace("}}", "}") for option in options]  # fmt: skip
    found = refused(command, noisy, *options, code=3)
    assert found.startswith(message.replace("{}", str(tmp_path)))


# What is wrong with a file t/noisy/image_001.tif, and what is said about it.
FILES = {
    "empty": (lambda p: p.write_bytes(b""), "cannot be read as an image: the file is empty"),
    "text": (lambda p: p.write_text("x,y\n1,2\n" * 9), "cannot be read as an image: not a TIFF"),
    "PNG in name of TIFF": (
        lambda p: Image.new("L", (24, 20)).save(p, "PNG"),
        "cannot be read as an image: not a TIFF",
    ),
    "truncated": (truncate, "cannot be read as an image: the file is truncated: it has "),
    "truncated volume": (
        lambda p: (tifffile.imwrite(p, np.ones((9, *SIZE), np.float32), compression="zlib",
                                    photometric="minisblack"), truncate(p)),
        "is damaged or truncated: some of its pages are missing",
    ),
    "NaN": (lambda p: put(p, np.full(SIZE, np.nan, np.float32)),
            "480 of 480 values are NaN or infinite; replace them"),
    "one infinity": (lambda p: put(p, np.where(np.indices(SIZE).sum(0), 1, -np.inf)),
                     "1 of 480 values are NaN or infinite; replace them"),
    "beyond float32": (lambda p: put(p, np.full(SIZE, 1e300)),
                       "480 of 480 values are NaN or infinite; replace them"),
    "complex": (lambda p: put(p, np.ones(SIZE, np.complex64)),
                "pixels of type complex64 are not real numbers"),
    "4-D": (lambda p: put(p, np.ones((2, 3, *SIZE), np.float32)),
            "holds 3 images (axes CZYX, shape (2, 3, 20, 24)), where one is expected; if they are "
            "its channels or a volume, set axes or network.ndim"),
    "pages of two sizes": (
        lambda p: [tifffile.imwrite(p, np.ones((5, k)), append=k == 7) for k in (6, 7)],
        "contains images of different shapes or types: (5, 6), (5, 7)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_not_images(refused, cli, noisy, tmp_path, name):
    path = tmp_path / "t" / "noisy" / "image_001.tif"
    change, message = FILES[name]
    change(path)
    assert refused("train", noisy, code=3).startswith(f"{path}: {message}")
    checked = cli("check", noisy)
    assert (checked.code, checked.err) == (3, "")
    assert f"problem: {path}: {message.split(';')[0]}" in checked.out


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.write_bytes(b""), "the file is empty"),
        (lambda p: p.write_text("no image\n" * 9), "its content is not in a known image format"),
        (truncate, "image file is truncated"),
    ],
    ids=["empty", "text", "truncated"],
)
def test_raster_files_that_are_not_images(refused, tmp_path, suffix, change, message):
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)
    Image.fromarray(noise).save(path)
    change(path)
    config = write_experiment(
        tmp_path / "a.yaml", {"data": {"train": {"input": str(path), "target": str(path)}}}
    )
    # The first image is read before the run directory is made.
    found = refused("train", config, code=3)
    assert found.startswith(f"{path}: cannot be read as an image: {message}")


def test_a_first_file_that_is_not_an_image_leaves_nothing(refused, noisy, tmp_path):
    (tmp_path / "t/noisy/image_000.tif").write_text("no image")
    refused("train", noisy, code=3)
    assert not (tmp_path / "run").exists()


# What is wrong with the sizes or channels, and what is said about it.
SHAPES = {
    "input and target differ": (
        "clean", SIZE[::-1],
        "{0}/t/noisy/image_001.tif is 20 x 24 pixels, its target {0}/t/clean/image_001.tif is "
        "24 x 20; both need the same size",
    ),
    "channels differ": (
        "noisy", (2, *SIZE),
        "{0}/t/noisy/image_001.tif has 2 channels, {0}/t/noisy/image_000.tif has 1; all input "
        "images need the same number, or set data.collapse_channels: true",
    ),
    "target channels differ": (
        "clean", (3, *SIZE),
        "{0}/t/clean/image_001.tif has 3 channels, {0}/t/clean/image_000.tif has 1; all target "
        "images need the same number, or set data.collapse_channels: true",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_that_do_not_fit(refused, noisy, tmp_path, name):
    kind, shape, message = SHAPES[name]
    put(tmp_path / "t" / kind / "image_001.tif", np.ones(shape, np.float32))
    found = refused("train", noisy, code=3)
    assert found == message.format(tmp_path)


@pytest.fixture
def with_a_small_pair(noisy, tmp_path):
    for kind in ("noisy", "clean"):
        put(tmp_path / "t" / kind / "image_001.tif", np.eye(9, 30, dtype=np.float32))
    return noisy


STARTED = BEGUN | {"run/checkpoints/last.pt"}


def test_different_sizes_in_a_batch(refused, with_a_small_pair):
    found = refused("train", with_a_small_pair, "--set", "training.batch_size=3", code=3)
    assert found == (
        "training images have 2 sizes, which need training.batch_size: 1, or data.crop"
    )


@pytest.mark.parametrize("option", [[], ["--resume"]])
def test_a_run_that_failed_before_its_first_update_starts_again(
    refused, cli, noisy, monkeypatch, option
):
    def fail(_self, _draw):
        raise InputError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(TrainingSamples, "sample", fail)
        assert refused("train", noisy, code=3, leaves=STARTED) == "the disk is gone"
    assert cli("train", noisy, *option).code == 0
    assert "already holds a run" in refused("train", noisy, code=2)


def test_a_crop_that_is_larger_than_an_image(refused, with_a_small_pair, tmp_path):
    found = refused("train", with_a_small_pair, "--set", "data.crop=[10, 20]", code=3)
    assert found == (
        "1 of 3 training images are smaller than data.crop 10 x 20, such as "
        f"{tmp_path}/t/noisy/image_001.tif with 9 x 30 pixels; the largest crop that fits all is "
        "[9, 24]"
    )


def test_a_dilation_that_is_larger_than_an_image(refused, with_a_small_pair, tmp_path):
    found = refused("train", with_a_small_pair, "--set", "network.dilations=[1, 10]", code=3)
    assert found == (
        f"{tmp_path}/t/noisy/image_001.tif: dilation 10 is too large for an image of size 9: "
        "symmetric padding allows at most 9; choose smaller network.dilations"
    )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "noisy",
            "the image has 2 channels, the network takes 1; if its last channel is opacity, save "
            "the image without it, otherwise with the channels that the network takes",
        ),
        ("clean", "the target has 2 channels, the network outputs 1"),
    ],
)
def test_validation_images_with_other_channels(refused, noisy, tmp_path, kind, message):
    put(tmp_path / "v" / kind / "image_000.tif", np.ones((2, *SIZE), np.float32))
    found = refused("train", noisy, code=3)
    assert found == f"{tmp_path}/v/{kind}/image_000.tif: {message}"


@pytest.mark.parametrize("kind", ["noisy", "clean"])
def test_validation_images_with_nan(refused, noisy, tmp_path, kind):
    path = tmp_path / "v" / kind / "image_000.tif"
    put(path, np.full(SIZE, np.nan, np.float32))
    found = refused("train", noisy, code=3)
    assert found.startswith(f"{path}: 480 of 480 values are NaN or infinite; replace them")


def test_ssim_of_images_that_are_too_small(refused, with_a_small_pair, tmp_path):
    found = refused("train", with_a_small_pair, "--set", "training.loss=L1+SSIM", code=3)
    assert found == (
        f"{tmp_path}/t/noisy/image_001.tif: is 9 pixels wide or high; SSIM, in training.loss, "
        "needs at least 11 pixels"
    )


def test_images_for_a_network_of_volumes(refused, noisy, tmp_path):
    found = refused("train", noisy, "--set", "network.ndim=3", code=3)
    assert found == (
        f"{tmp_path}/v/noisy/image_000.tif: the image has the axes YX, shape (20, 24); a volume "
        "needs Z, Y and X; save its slices as one file; for images, network.ndim is 2"
    )


def test_a_process_says_no_more_than_that(noisy, tmp_path):
    """Not even what decoders log."""
    path = tmp_path / "t/noisy/image_001.tif"
    FILES["truncated volume"][0](path)
    command = [sys.executable, "-m", "msdtool", "train", noisy, "--quiet"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (3, "")
    expected = f"error: {path}: is damaged or truncated: some of its pages are missing\n"
    assert result.stderr == expected
