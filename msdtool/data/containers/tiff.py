"""TIFF of every origin: ImageJ, OME, BigTIFF, tiled, compressed."""

import math
import re
import struct
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from msdtool.data.containers.base import Array, Container, Key, key_shape
from msdtool.data.containers.flat import FlatArray
from msdtool.data.containers.library_log import collected
from msdtool.data.letters import UNNAMED
from msdtool.errors import InputError
from msdtool.wording import size_text

JPEG = {6, 7, 34892, 33007}
# Bits of the tag NewSubfileType, and values of ExtraSamples (TIFF 6.0).
REDUCED, MASK = 1, 4
OPACITY = {1, 2}
ORIENTATION, GDAL_NODATA = 274, 42113
# The time they take grows with the text, not with its square, whatever it holds.
_OME_FILE = re.compile(r"<(?:\w+:)?OME\b[^<>]*\bUUID=\"([^\"]+)\"")
_OME_PART = re.compile(r"<(?:\w+:)?UUID\b[^<>]*>([^<]+)</")
# How many bytes one may stand for at most, where the code sets a bound: of LZW, the longest string
# in a table of 4096 by 12 bits; of Deflate, 258 bytes by 2 bits; of PackBits, 128 by 2 bytes; of
# Zstandard, a block of 2^17 by 4 bytes.
LARGEST_RATIO = {1: 1, 5: 2560, 8: 1032, 32946: 1032, 32773: 64, 50000: 2**15}
# What tifffile reports, in its log only, when it finds fewer pages than a file should have.
SIGNS_OF_DAMAGE = ("invalid page offset", "failed to reshape", "corrupted file")


def open_tiff(path: Path) -> Container:
    """Open a TIFF.

    Raises:
        InputError: its pages do not form one array, or some are missing.
        Exception: whatever tifffile raises for a file that is not a TIFF.
    """
    with collected("tifffile") as log:
        file = open_alone(path)
        try:
            _check_chain(file, path)
            pages = _pages(file, path)
            if any(sign in message for message in log for sign in SIGNS_OF_DAMAGE):
                raise InputError(f"{path}: is damaged or truncated: some of its pages are missing")
        except BaseException:
            file.close()
            raise
    if isinstance(pages, FlatArray):
        file.close()
    return pages


def open_alone(path: Path) -> tifffile.TiffFile:
    """Open a TIFF for the pixels that it holds itself, and what it says about these.

    Each file of an OME data set describes the whole set, and tifffile would read the others, too,
    as if they were pages of this one: a folder of n files would hold n * n slices.
    """
    file = tifffile.TiffFile(path)
    own = _OME_FILE.search(file.ome_metadata or "")
    if own is None or set(_OME_PART.findall(own.string)) <= {own[1]}:
        return file
    file.close()
    return tifffile.TiffFile(path, is_ome=False)


def _check_chain(file: tifffile.TiffFile, path: Path) -> None:
    """Raise InputError if a page is followed by an earlier one: tifffile would read for ever."""
    if file.is_ndpi:  # whose offsets are in other places
        return
    tiff, handle = file.tiff, file.filehandle
    seen: set[int] = set()
    offset = file.pages.first.offset
    while 0 < offset < handle.size:
        if offset in seen:
            raise InputError(f"{path}: is damaged: page {len(seen)} is followed by an earlier page")
        seen.add(offset)
        handle.seek(offset)
        (tags,) = struct.unpack(tiff.tagnoformat, handle.read(tiff.tagnosize))
        handle.seek(offset + tiff.tagnosize + tags * tiff.tagsize)
        following = handle.read(tiff.offsetsize)
        if len(following) < tiff.offsetsize:
            return  # tifffile reports it
        (offset,) = struct.unpack(tiff.offsetformat, following)


def _check_size(page: Any, path: Path) -> None:
    """Raise InputError if a page cannot have all its pixels in the bytes that the file has."""
    keyframe, held = page.keyframe, page.parent.filehandle.size
    ratio = LARGEST_RATIO.get(keyframe.compression)
    # Segments of no bytes are absent, as GDAL leaves them out.
    if ratio is None or keyframe.is_subsampled or 0 in page.databytecounts:
        return
    spans = zip(page.dataoffsets, page.databytecounts, strict=False)
    found = sum(max(0, min(count, held - offset)) for offset, count in spans)
    needed = -(-math.prod(keyframe.shape) * keyframe.bitspersample // (8 * ratio))
    if found < needed:
        raise InputError(
            f"{path}: is damaged or truncated: {size_text(keyframe.shape)} values need at least "
            f"{needed} bytes, the file has {found} of them"
        )


def _pages(file: tifffile.TiffFile, path: Path) -> Container:
    if not file.series:
        raise ValueError("it is damaged or truncated: it contains no image")
    images = [series for series in file.series if _shows_the_image(series.keyframe)]
    all_series = images or file.series
    kinds = {(series.shape, series.axes, series.dtype) for series in all_series}
    if len(kinds) != 1:
        shapes = ", ".join(str(series.shape) for series in all_series)
        raise InputError(f"{path}: contains images of different shapes or types: {shapes}")
    _check_all_pages_count(file, path)
    series = all_series[0]
    container = _container(file, path, all_series)
    if not isinstance(container, FlatArray):  # which sees to that itself
        _check_size(series.keyframe, path)
    if "S" in series.axes:
        container.opacity = _opacity(series.keyframe)
    container.notes = tuple(_notes(series.keyframe))
    return container


def _opacity(page: Any) -> tuple[int, ...]:
    """The samples of a pixel that are opacity; the extra ones follow the colours."""
    first = page.samplesperpixel - len(page.extrasamples)
    return tuple(first + i for i, kind in enumerate(page.extrasamples) if kind in OPACITY)


def _check_all_pages_count(file: tifffile.TiffFile, path: Path) -> None:
    """Raise InputError if a description of ImageJ or OME leaves out images that the file has."""
    if not (file.is_imagej or file.is_ome):
        return
    levels = [level for series in file.series for level in series.levels]
    used = {page.index for level in levels for page in level.pages if page is not None}
    shape = file.series[0].keyframe.shape
    left_out = [file.pages.get(number) for number in set(range(len(file.pages))) - used]
    count = sum(page.shape == shape and _shows_the_image(page) for page in left_out)
    if count:
        raise InputError(
            f"{path}: its description, of {'ImageJ' if file.is_imagej else 'OME'}, leaves out "
            f"{count} of its {len(file.pages)} pages; save the file again"
        )


def _container(file: tifffile.TiffFile, path: Path, all_series: list[Any]) -> Container:
    """The pages of series that are alike, as one array."""
    series = all_series[0]
    if len(all_series) > 1:
        # Pages that were appended one by one.
        pages = [page for item in all_series for page in item.pages]
        shape, axes = (len(all_series), *series.shape), UNNAMED + series.axes
        return TiffPages(file, pages, shape, axes)
    if series.dataoffset is not None and series.keyframe.bitspersample % 8 == 0:
        dtype = series.dtype.newbyteorder(file.byteorder)
        return FlatArray(path, series.dataoffset, series.shape, dtype, series.axes)
    pages = [page for page in series.pages if _shows_the_image(page)]
    if len(pages) in (0, len(series.pages)):
        pages = list(series.pages)
        return TiffPages(file, pages, series.shape, series.axes)
    shape, axes = series.keyframe.shape, series.keyframe.axes
    if len(pages) > 1:
        shape, axes = (len(pages), *shape), UNNAMED + axes
    return TiffPages(file, pages, shape, axes)


def _notes(page: Any) -> Iterator[str]:
    """What tags say about the pixels, see `Container`."""
    missing = page.tags.valueof(GDAL_NODATA)
    if missing is not None:
        yield f"the value {str(missing).strip()} stands for missing pixels (the tag GDAL_NODATA)"
    turned = page.tags.valueof(ORIENTATION)
    if turned not in (None, 1):
        yield (
            f"viewers turn or mirror the image (the tag Orientation is {int(turned)}); it is read "
            "as it is stored"
        )


def _shows_the_image(page: Any) -> bool:
    """Whether a page is neither a smaller copy of another page nor a mask of valid pixels."""
    # Of frames, which share the tags of a key frame, nothing else is known.
    return not int(getattr(page, "subfiletype", 0)) & (REDUCED | MASK)


class TiffPages(Container):
    """Pages that are decoded one at a time.

    Args:
        file: the open file.
        pages: all pages, the last of the leading axes fastest.
        shape, axes: see `Container`; the trailing axes are those of a page.
    """

    def __init__(
        self,
        file: tifffile.TiffFile,
        pages: list[Any],
        shape: tuple[int, ...],
        axes: str,
    ) -> None:
        self.file, self.pages = file, pages
        self.shape, self.axes = shape, axes
        self.dtype = pages[0].dtype
        depth = len(shape)
        while math.prod(shape[:depth]) > len(pages):
            depth -= 1
        if math.prod(shape[:depth]) != len(pages) or None in pages:
            raise ValueError("it is damaged or truncated: some of its pages are missing")
        self.num_leading = depth

    def read(self, key: Key) -> Array:
        """Read a part, if possible only from the strips or tiles that it intersects."""
        leading, inner = key[: self.num_leading], key[self.num_leading :]
        sizes = self.shape[: self.num_leading]
        ranges = [
            range(size)[part] if isinstance(part, slice) else [part]
            for part, size in zip(leading, sizes, strict=True)
        ]
        out = np.empty(key_shape(key, self.shape), self.dtype.newbyteorder("="))
        flat = out.reshape(-1, *key_shape(inner, self.shape[self.num_leading :]))
        page_shape = self.shape[self.num_leading :]
        with collected("tifffile"):
            for number, place in enumerate(product(*ranges)):
                page = self.pages[int(np.ravel_multi_index(place, sizes)) if place else 0]
                flat[number] = _read_page(page, page_shape, inner)
        return out

    def files(self) -> list[Path]:
        """The other files of an OME-TIFF of several files."""
        places = {Path(page.parent.filehandle.path) for page in self.pages}
        return sorted(places - {Path(self.file.filehandle.path)})

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def _read_page(page: Any, shape: tuple[int, ...], key: Key) -> Array:
    """Read a part of a page; of a grey page, decode only the segments that it intersects."""
    keyframe = page.keyframe
    if (
        len(shape) != 2
        or keyframe.shape != shape
        or len(page.dataoffsets) != math.prod(keyframe.chunked)
        or keyframe.compression in JPEG  # needs separate tables
    ):
        whole: Array = page.asarray().reshape(shape)
        return whole[key]
    spans = [
        range(size)[part] if isinstance(part, slice) else range(part, part + 1)
        for part, size in zip(key, shape, strict=True)
    ]
    height, width = keyframe.chunks
    top, left = spans[0].start // height, spans[1].start // width
    bottom, right = -(-spans[0].stop // height), -(-spans[1].stop // width)
    block = np.full(
        ((bottom - top) * height, (right - left) * width), keyframe.nodata, keyframe.dtype
    )
    for row, column in product(range(top, bottom), range(left, right)):
        pixels = _segment(page, row * keyframe.chunked[1] + column)
        if pixels is not None:
            y, x = (row - top) * height, (column - left) * width
            block[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    within = [
        slice(span.start - corner, span.stop - corner)
        for span, corner in zip(spans, (top * height, left * width), strict=True)
    ]
    # An axis of the page may count images: then the key has an index for it, and it is dropped.
    counted = tuple(0 if isinstance(part, int) else slice(None) for part in key)
    return block[tuple(within)][counted]


def _segment(page: Any, index: int) -> Array | None:
    """Decode a strip or tile, [H, W]; None if it is absent from the file."""
    file, size = page.parent.filehandle, page.databytecounts[index]
    if not size:
        return None
    file.seek(page.dataoffsets[index])
    decoded, _, shape = page.keyframe.decode(file.read(size), index)
    pixels: Array = decoded[0, : shape[1], : shape[2], 0]
    return pixels
