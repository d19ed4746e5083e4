"""How many bits of a raster image's values count.

Pillow stretches values of few bits to 8 or 16, cuts others to 8 bits and ignores signs, without a
word. The headers tell what it did, so that it can be undone, or left to another decoder.
"""

import re
from typing import NamedTuple

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG2000_SIZE = b"\xff\x4f\xff\x51"
"""Start of a JPEG 2000 codestream, and of its size marker (ISO/IEC 15444-1, A.5.1)."""
_AV1 = re.compile(rb"av1C\x81.(.)", re.DOTALL)
"""The box that describes an AVIF's coding; the bits 64 and 32 stand for 10 and 12 bits."""
_SGI_DEEP = b"\x01\xda"
_BYTE, _SHORT = 8, 16
_MISREAD_BY_PILLOW = 9
"""The bits of a grey JPEG 2000 that Pillow takes for 8."""


class Depth(NamedTuple):
    """Values as a file stores them.

    Attributes:
        kind: what the format is called.
        is_colour: whether there are several samples per pixel.
        bits: of a sample.
        decoded: what Pillow makes of the largest value that the file can hold.
        is_odd: whether Pillow reads them wrong for another reason than their number.
    """

    kind: str
    is_colour: bool
    bits: int
    decoded: int
    is_odd: bool = False

    @property
    def largest(self) -> int:
        """The largest value that the file can hold."""
        return int(2**self.bits) - 1

    @property
    def is_lossy(self) -> bool:
        """Whether Pillow's values do not tell the file's."""
        return self.is_odd or self.largest > self.decoded


def stored_depth(content: bytes) -> Depth | None:
    """Read the header of a PNG, JPEG 2000, AVIF or SGI file; None for any other format."""
    try:
        return _stored_depth(content)
    except IndexError:
        return None  # cut short within the header: the decoder says so


def _stored_depth(content: bytes) -> Depth | None:
    if content.startswith(PNG_SIGNATURE):
        bits, colour_type = content[24], content[25]
        if colour_type == 3:  # indices into a palette
            return None
        is_colour = colour_type != 0
        decoded = 1 if bits == 1 else 255 if is_colour or bits <= _BYTE else 65535
        return Depth("PNG", is_colour, bits, decoded)
    if content[:2] == _SGI_DEEP:
        return Depth("SGI", content[11] > 1, 8 * content[3], 255)
    if content[4:8] == b"jP  " or content.startswith(JPEG2000_SIZE):
        return _jpeg2000(content)
    if content[4:8] == b"ftyp" and (coding := _AV1.findall(content)):
        deepest = max(flags[0] & 96 for flags in coding)
        return Depth("AVIF", True, {0: 8, 64: 10}.get(deepest, 12), 255)
    return None


def _jpeg2000(content: bytes) -> Depth:
    size = content.find(JPEG2000_SIZE)
    count = int.from_bytes(content[size + 40 : size + 42], "big")
    # Of each component: its sign and bits, and how it is sampled.
    components = [content[size + 42 + 3 * number] for number in range(count)]
    bits = max(kind & 0x7F for kind in components) + 1
    is_odd = (
        len(set(components)) > 1
        or components[0] > 0x7F
        or bits > _SHORT
        or (count == 1 and bits == _MISREAD_BY_PILLOW)
    )
    # Pillow shifts values to the top of 8 or 16 bits, but has colours of 8 bits only.
    decoded = 255 if count > 1 and bits > _BYTE else (2**bits - 1) << (-bits % 8)
    return Depth("JPEG 2000", count > 1, bits, decoded, is_odd)
