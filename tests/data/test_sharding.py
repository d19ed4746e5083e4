"""OME-Zarr images lie in shards, one file for many chunks, read by the zarr library."""

import json

import numpy as np
import pytest

from msdtool.data.sinks import Journal, Result, compression, open_sink
from msdtool.data.sinks import zarr as sinks

zarr = pytest.importorskip("zarr", "3")

VOLUME = (1, 5, 75, 137)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Chunks of 64 pixels on a side, and copies down to 32."""
    monkeypatch.setattr(compression, "CHUNK", 64)
    monkeypatch.setattr(sinks, "SMALLEST", 32)


def result(image=VOLUME, counts=(), names="", **options):
    return Result(counts, names, image, "uint16", {"test": 1}, name="a", **options)


def example(about, seed=0):
    shape = (about.num_images, *about.image)
    return np.random.default_rng(seed).integers(0, 2**16, shape, np.uint16)


def write(sink, images, cuts, axis=0, first=0):
    for index, image in enumerate(images):
        edges = [0, *cuts, image.shape[1 + axis]]
        for start, stop in zip(edges[first:], edges[first + 1 :], strict=False):
            key = [slice(None)] * image.ndim
            key[1 + axis] = slice(start, stop)
            sink.write(index, start, image[tuple(key)], axis)


def written(path, about, cuts=(1, 3), axis=0):
    sink, images = open_sink("zarr", path, about), example(about)
    write(sink, images, cuts, axis)
    sink.finish()
    return zarr.open_group(str(path), mode="r"), images


def files(path, level):
    return [file for file in (path / str(level) / "c").rglob("*") if file.is_file()]


def halved(image):
    """Means of 2 x 2 pixels of the last two axes, ties to even; the last ones are repeated."""
    padded = np.pad(
        image, [(0, 0)] * (image.ndim - 2) + [(0, s % 2) for s in image.shape[-2:]], "edge"
    )
    rows = padded[..., ::2, :].astype(np.int64) + padded[..., 1::2, :]
    return np.rint((rows[..., ::2] + rows[..., 1::2]) / 4)


def test_a_slice_of_a_volume_is_one_file_and_copies_are_fewer(tmp_path):
    about = result()
    group, images = written(tmp_path / "a.ome.zarr", about)
    np.testing.assert_array_equal(group["0"][:], images[0, 0])
    assert group["0"].shards == (1, 128, 192)
    assert group["0"].chunks == (1, 64, 64)
    assert len(files(tmp_path / "a.ome.zarr", 0)) == 5
    assert len(files(tmp_path / "a.ome.zarr", 1)) == 1
    np.testing.assert_array_equal(group["1"][:], halved(images[0, 0]))
    np.testing.assert_array_equal(group["2"][:], halved(halved(images[0, 0])))


def test_images_come_in_rows_so_their_shards_are_rows(tmp_path):
    about = result((1, 137, 137), (2,), "Z")
    group, images = written(tmp_path / "a.ome.zarr", about, (40, 90))
    assert group["0"].shards == (1, 64, 192)
    np.testing.assert_array_equal(group["0"][:], images[:, 0])
    np.testing.assert_array_equal(group["1"][:], halved(images[:, 0]))


@pytest.mark.parametrize("size", [1, 2**13, 2**15])
def test_shards_are_no_larger_than_is_allowed(tmp_path, monkeypatch, size):
    monkeypatch.setattr(sinks, "SHARD_BYTES", size)
    about = result()
    group, images = written(tmp_path / "a.ome.zarr", about)
    for level in ("0", "1"):
        array = group[level]
        held = array.shards or array.chunks
        assert 2 * np.prod(held) <= max(size, 2 * np.prod(array.chunks))
    np.testing.assert_array_equal(group["0"][:], images[0, 0])
    np.testing.assert_array_equal(group["1"][:], halved(images[0, 0]))


def test_small_images_have_none(tmp_path):
    group, images = written(tmp_path / "a.ome.zarr", result((1, 3, 30, 32)))
    assert group["0"].shards is None
    np.testing.assert_array_equal(group["0"][:], images[0, 0])


@pytest.mark.parametrize("name", ["none", "deflate", "zstd", "blosc"])
def test_chunks_within_a_shard_are_compressed(tmp_path, name):
    about = result(compression=name)
    group, images = written(tmp_path / "a.ome.zarr", about)
    np.testing.assert_array_equal(group["0"][:], images[0, 0])
    (codec,) = json.loads((tmp_path / "a.ome.zarr" / "0" / "zarr.json").read_text())["codecs"]
    assert codec["name"] == "sharding_indexed"
    inner = [one["name"] for one in codec["configuration"]["codecs"]]
    assert inner[1:] == {"none": [], "deflate": ["gzip"]}.get(name, [name])


@pytest.mark.parametrize("axis, cuts", [(0, (2, 3)), (1, (12, 64, 65)), (2, (90,))])
def test_a_shard_is_written_in_parts_and_continued(tmp_path, axis, cuts):
    about, path = result(), tmp_path / "a.ome.zarr"
    images = example(about)
    sink = open_sink("zarr", path, about)
    write(sink, images, cuts[:1], axis)
    # Whatever else a killed process was about to write is under a name of zarr's.
    sink.save(0, b"state")
    sink.close()
    (partial,) = [Journal(path).partial()]
    (partial / "0" / "c" / "0.0123.partial").write_bytes(b"half")
    sink = open_sink("zarr", path, about, is_new=False)
    write(sink, images, cuts, axis, first=1)
    sink.finish()
    group = zarr.open_group(str(path), mode="r")
    np.testing.assert_array_equal(group["0"][:], images[0, 0])
    np.testing.assert_array_equal(group["1"][:], halved(images[0, 0]))
    assert not list(path.rglob("*.partial"))
