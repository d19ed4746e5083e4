"""PBM, PGM and PPM: Pillow stretches or cuts their values, and leaves out all but one image."""

import math
import re

import numpy as np

from msdtool.data.containers.base import Array

_SPACE = rb"(?:\s|#[^\r\n]*[\r\n])+"
_BITMAP = re.compile(rb"P([14])" + _SPACE + rb"(\d+)" + _SPACE + rb"(\d+)\s")
_VALUES = re.compile(rb"P([2356])" + _SPACE + rb"(\d+)" + _SPACE + rb"(\d+)" + _SPACE + rb"(\d+)\s")
_COMMENT = re.compile(rb"#[^\r\n]*")
MAX_LARGEST = 65535
MAX_DIGITS = 9


def read_netpbm(content: bytes) -> Array | None:
    """Read a PBM, PGM or PPM, plain or binary, https://netpbm.sourceforge.net/doc/.

    Returns:
        [H, W] bool, True where a PBM is white; [H, W] or [H, W, 3] uint8 or uint16 as stored; None
        if the content is of another format.

    Raises:
        ValueError: it holds more or less than one image, or a value above its largest.
    """
    header = _VALUES.match(content) or _BITMAP.match(content)
    if header is None:
        return None
    if any(len(number) > MAX_DIGITS for number in header.groups()):
        raise ValueError("it is damaged: its size is beyond bounds")
    kind, width, height, *others = map(int, header.groups())
    shape = (height, width, 3) if kind in (3, 6) else (height, width)
    pixels = content[header.end() :]
    if kind == 4:
        rows = _binary(pixels, (height, -(-width // 8)), np.dtype(np.uint8))
        return np.unpackbits(rows, axis=1, count=width) == 0
    if kind == 1:
        digits = re.sub(rb"\s", b"", _COMMENT.sub(b"", pixels))
        bits = _binary(digits, shape, np.dtype(np.uint8)) - ord("0")
        return _within(bits, 1) == 0
    (largest,) = others
    if not 0 < largest <= MAX_LARGEST:
        raise ValueError(f"it is damaged: its largest value is {largest}")
    dtype = np.dtype(np.uint8 if largest <= np.iinfo(np.uint8).max else np.uint16)
    if kind in (2, 3):
        return _within(_plain(pixels, shape), largest).astype(dtype)
    return _within(_binary(pixels, shape, dtype.newbyteorder(">")), largest).astype(dtype)


def _binary(pixels: bytes, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    needed = math.prod(shape) * dtype.itemsize
    _check_count(len(pixels[:needed]) + len(pixels[needed:].strip()), needed, "bytes")
    return np.frombuffer(pixels, dtype, math.prod(shape)).reshape(shape)


def _plain(pixels: bytes, shape: tuple[int, ...]) -> Array:
    words = _COMMENT.sub(b"", pixels).split()
    _check_count(len(words), math.prod(shape), "values")
    longest = max(map(len, words), default=0)
    if longest > MAX_DIGITS:  # all of them would take as much memory
        raise ValueError(f"it is damaged: it has a value of {longest} characters")
    return np.array(words, dtype=f"S{MAX_DIGITS}").astype(np.int64).reshape(shape)


def _check_count(found: int, needed: int, unit: str) -> None:
    if found < needed:
        raise ValueError(f"it is damaged or truncated: it has {found} {unit} instead of {needed}")
    if found > needed:
        raise ValueError(
            f"it has {found} {unit} instead of {needed}: several images, or a comment just before "
            "the pixels; save each image as TIFF"
        )


def _within(values: Array, largest: int) -> Array:
    if values.size and not 0 <= values.min() <= values.max() <= largest:
        found = values.max() if values.min() >= 0 else values.min()
        raise ValueError(f"it has the value {found} outside of 0 to {largest}; save it as TIFF")
    return values
