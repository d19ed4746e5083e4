"""PNG: one image of integers, encoded when it is complete."""

import json
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from msdtool.data.containers.flat import FlatArray
from msdtool.data.sinks.flat import FlatSink, NpyFile
from msdtool.data.sinks.result import Result

COLOURS = 3


def refusal(shape: tuple[int, ...], dtype: np.dtype[np.generic], count: int = 1) -> str | None:
    """Say why images cannot be a PNG, and what to do; None: they can.

    Args:
        shape: [C, *space] of an image; only C and the number of axes matter.
        dtype: of the pixels.
        count: number of images in the file.
    """
    if count > 1 or len(shape) != 3:
        what = f"{count} images" if count > 1 else "a volume"
        return f"a PNG holds one image, not {what}; choose the format tif, or files"
    if dtype not in (np.uint8, np.uint16):
        cure = "the dtype uint8 or uint16 with a scale, or " if dtype.kind == "f" else ""
        return f"a PNG holds uint8 or uint16, not {dtype}; choose {cure}the format tif"
    allowed = (1, COLOURS) if dtype == np.uint8 else (1,)
    if shape[0] not in allowed:
        return (
            f"a PNG of {dtype} holds {' or '.join(map(str, allowed))} channels, not {shape[0]}; "
            "choose the format tif"
        )
    return None


def encode_png(pixels: FlatArray, target: Path, result: Result) -> None:
    """Write a PNG; its text chunk "msdtool" is JSON: how it came about, slope and offset.

    Raises:
        OSError: the file cannot be written.
    """
    array = pixels.read(tuple(slice(None) for _ in result.shape))
    if result.image[0] > 1:
        array = np.ascontiguousarray(np.moveaxis(array, 0, -1))
    text = PngImagePlugin.PngInfo()
    if result.description.facts:
        text.add_text("msdtool", json.dumps(result.description.facts))
    with target.open("wb") as file:
        Image.fromarray(array).save(file, "PNG", pnginfo=text)


class PngSink(FlatSink):
    """A PNG; until it is complete, its pixels lie in the format of `numpy.save`."""

    kind = NpyFile
    compress = encode_png

    def _is_encoded(self) -> bool:
        return True
