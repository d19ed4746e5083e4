"""Zarr: an array that is assigned range by range, or an OME-Zarr image with smaller copies.

The description of an OME-Zarr image is our own (`msdtool.data.metadata.ngff`), a few keys: ome-zarr
and ngff-zarr write whole arrays through dask, and could not resume one after a kill.
"""

import json
import math
from collections.abc import Iterator, Sequence
from operator import mul
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from msdtool.data.containers import Array
from msdtool.data.extras import load_extra
from msdtool.data.metadata import ngff
from msdtool.data.metadata.hdf5 import packed
from msdtool.data.patches import inside
from msdtool.data.sinks.base import Sink
from msdtool.data.sinks.compression import chunk_keys, chunk_shape
from msdtool.data.sinks.result import Result

SHARD_BYTES = 2**25
"""Largest size of a shard before compression: one file instead of one per chunk."""
SMALLEST = 256
"""An OME-Zarr image has copies down to this number of pixels on its longer side."""
NGFF_ORDER = "TCZYX"
T = TypeVar("T")


def is_ome(path: Path, result: Result) -> bool:
    """Whether a result becomes an OME-Zarr image: by its name, or because its input is one."""
    is_image = result.description.metadata.convention == "ome"
    return is_image or path.name.lower().endswith(".ome.zarr")


class ZarrSink(Sink):
    """A zarr array, at the root or in a group."""

    is_folder = True

    def _open(self, *, is_new: bool) -> None:
        zarr = load_extra("zarr", self.path)
        inner = self.result.inner.strip("/")
        if not is_new:
            self.array = zarr.open_array(str(self.partial / inner), mode="r+")
            return
        options = self._array_options(self.result.shape, chunk_shape(self.result), self.result.axes)
        options["attributes"] = self._attributes()
        if inner:
            self.array = zarr.open_group(str(self.partial), mode="w").create_array(inner, **options)
        else:
            self.array = zarr.create_array(str(self.partial), **options)

    def _array_options(
        self, shape: tuple[int, ...], chunks: tuple[int, ...], axes: str
    ) -> dict[str, Any]:
        """The arguments of zarr's ``create_array``."""
        return {
            "shape": shape,
            "dtype": self.result.dtype,
            "chunks": chunks,
            "dimension_names": tuple(axes.lower()),
            "compressors": _compressors(self.result.compression, self.path),
        }

    def _attributes(self) -> dict[str, Any]:
        """What the array says about itself."""
        description = self.result.description
        found = packed(description.metadata.attributes, description.packing)
        if description.metadata.steps:
            steps = description.metadata.steps.items()
            found["steps"] = {letter: list(step) for letter, step in steps}
        if description.facts:
            found["msdtool"] = description.facts
        plain: dict[str, Any] = json.loads(json.dumps(found, default=_to_plain))
        return plain

    def _write(self, index: int, start: int, pixels: Array, axis: int) -> None:
        part = pixels if self.result.image[0] > 1 else pixels[0]
        self.array[self.result.key(index, start, pixels.shape[axis + 1], axis)] = part

    def _completed(self) -> Path:
        # Of chunks that a killed process was writing; zarr renames those that are complete.
        for unfinished in self.partial.rglob("*.partial"):
            unfinished.unlink()
        return self.partial

    def _marked(self) -> Path:
        return self.partial / self.result.inner.strip("/")

    def _sync(self) -> None:
        """Do nothing: each chunk is a file of its own, and none is open."""

    def close(self) -> None:
        """Do nothing: no file is open."""


class OmeZarrSink(ZarrSink):
    """An OME-Zarr image, version 0.5: the array "0", and copies of half the size each."""

    def _open(self, *, is_new: bool) -> None:
        self.zarr = load_extra("zarr", self.path)
        axes = self.result.axes
        self.order = sorted(range(len(axes)), key=lambda axis: NGFF_ORDER.index(axes[axis]))
        self.axes = self._ordered(axes)
        self.levels = list(self._sizes())
        if is_new:
            group = self.zarr.create_group(str(self.partial))
            group.attrs.update(self._attributes())
            self.array = self._create(group, 0)
        else:
            self.array = self.zarr.open_array(str(self.partial / "0"), mode="r+")

    def _ordered(self, items: Sequence[T]) -> tuple[T, ...]:
        """Items for the axes of the result in the order that NGFF demands."""
        return tuple(items[axis] for axis in self.order)

    def _sizes(self) -> Iterator[tuple[int, ...]]:
        """The shape of each level."""
        shape = self._ordered(self.result.shape)
        yield shape
        while any(factor > 1 for factor in self._factors(shape)):
            factors = self._factors(shape)
            shape = tuple(-(-size // by) for size, by in zip(shape, factors, strict=True))
            yield shape

    def _factors(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """How much smaller the level after one of this shape is along each axis."""
        return tuple(
            2 if letter in "ZYX" and size > SMALLEST else 1
            for letter, size in zip(self.axes, shape, strict=True)
        )

    def _create(self, group: Any, level: int) -> Any:
        shape = self.levels[level]
        chunks = tuple(map(min, self._ordered(chunk_shape(self.result)), shape))
        options = self._array_options(shape, chunks, "".join(self.axes))
        options["shards"] = self._shards(level, shape, chunks)
        return group.create_array(str(level), overwrite=True, **options)

    def _shards(
        self, level: int, shape: tuple[int, ...], chunks: tuple[int, ...]
    ) -> tuple[int, ...] | None:
        """Which pixels lie in one file; None: those of a chunk.

        Whatever is written to a part of a shard writes all of it again. The image arrives in rows,
        or as slices of a volume, so its shards are a row of chunks or a slice; smaller copies are
        written shard by shard.
        """
        letters = "XYZ" if level else "XY" if len(self.result.image) == 4 else "X"
        shards, size = list(chunks), math.prod(chunks) * np.dtype(self.result.dtype).itemsize
        for axis in (self.axes.index(letter) for letter in letters if letter in self.axes):
            count = max(1, min(-(-shape[axis] // chunks[axis]), SHARD_BYTES // size))
            shards[axis], size = chunks[axis] * count, size * count
        return tuple(shards) if tuple(shards) != chunks else None

    def _attributes(self) -> dict[str, Any]:
        factors = [(1,) * len(self.axes)]
        for shape in self.levels[:-1]:
            factors.append(tuple(map(mul, factors[-1], self._factors(shape))))
        description = self.result.description
        name = self.result.name.split(".")[0]
        image = ngff.describe("".join(self.axes), factors, description.metadata, name)
        return image | ({"msdtool": description.facts} if description.facts else {})

    def _write(self, index: int, start: int, pixels: Array, axis: int) -> None:
        part = pixels if self.result.image[0] > 1 else pixels[0]
        key = self.result.key(index, start, pixels.shape[axis + 1], axis)
        whole = (*key, *[slice(None)] * (len(self.axes) - len(key)))
        # Axes that count images have one index, so that the others are in order already.
        self.array[self._ordered(whole)] = part

    def _completed(self) -> Path:
        group = self.zarr.open_group(str(self.partial), mode="r+")
        finer = self.array
        for level in range(1, len(self.levels)):
            coarser = self._create(group, level)
            factors = self._factors(finer.shape)
            for key in chunk_keys(coarser.shape, coarser.shards or coarser.chunks):
                coarser[key] = self._shard(finer, key, coarser.chunks, factors)
            finer = coarser
        return super()._completed()

    def _shard(
        self,
        finer: Any,
        key: tuple[slice, ...],
        chunks: tuple[int, ...],
        factors: tuple[int, ...],
    ) -> Array:
        """A part of the next level, computed chunk by chunk."""
        shard = np.empty([part.stop - part.start for part in key], self.result.dtype)
        for inner in chunk_keys(shard.shape, chunks):
            shard[inner] = self._smaller(finer, inside(key, inner), factors)
        return shard

    def _smaller(self, finer: Any, key: tuple[slice, ...], factors: tuple[int, ...]) -> Array:
        """A part of the next level: means of its pixels, of labels the first ones."""
        within = zip(key, factors, finer.shape, strict=True)
        source: Array = finer[
            tuple(slice(p.start * by, min(p.stop * by, size)) for p, by, size in within)
        ]
        if self.result.are_labels:
            return source[tuple(slice(None, None, by) for by in factors)]
        missing = [(0, -size % by) for size, by in zip(source.shape, factors, strict=True)]
        blocks = np.pad(source, missing, mode="edge")
        for axis, by in enumerate(factors):
            if by > 1:
                shape = (*blocks.shape[:axis], -1, by, *blocks.shape[axis + 1 :])
                blocks = blocks.reshape(shape).mean(axis + 1)
        dtype = np.dtype(self.result.dtype)
        return np.rint(blocks).astype(dtype) if dtype.kind in "iu" else blocks.astype(dtype)

    def _marked(self) -> Path:
        return self.partial / "0"


def _compressors(name: str | None, path: Path) -> Any:
    """The argument of zarr for a compression; None stands for the library's default."""
    codecs = load_extra("zarr.codecs", path)
    return {
        None: "auto",
        "none": None,
        "deflate": codecs.GzipCodec(),
        "zstd": codecs.ZstdCodec(),
        "blosc": codecs.BloscCodec(cname="zstd"),
    }[name]


def _to_plain(value: Any) -> Any:
    """Turn a value of NumPy into one of JSON."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value.tolist()
