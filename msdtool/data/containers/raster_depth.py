"""How many bits of a raster image's values count.

Pillow stretches values of few bits to 8 or 16 and cuts colours to 8 bits, without a word. The
headers tell what it did, so that it can be undone, or refused where it loses information.
"""

import re
from typing import NamedTuple

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG2000_SIZE = b"\xff\x4f\xff\x51"
"""Start of a JPEG 2000 codestream, and of its size marker (ISO/IEC 15444-1, A.5.1)."""
_NETPBM = re.compile(rb"P([2356])(?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+(\d+)\s")
_SGI_DEEP = b"\x01\xda"


class Depth(NamedTuple):
    """Values as a file stores them.

    Attributes:
        kind: what the format is called.
        is_colour: whether there are several samples per pixel.
        largest: the largest value that the file can hold.
        decoded: what Pillow makes of that value.
    """

    kind: str
    is_colour: bool
    largest: int
    decoded: int

    @property
    def is_lossy(self) -> bool:
        """Whether Pillow's values do not tell the file's."""
        return self.largest > self.decoded


def stored_depth(content: bytes) -> Depth | None:
    """Read the header of a PNG, Netpbm, JPEG 2000 or SGI file; None for any other format."""
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
        decoded = 1 if bits == 1 else 255 if is_colour or bits <= 8 else 65535
        return Depth("PNG", is_colour, 2**bits - 1, decoded)
    if found := _NETPBM.match(content):
        is_colour, largest = found[1] in b"36", int(found[2])
        return Depth("PPM", is_colour, largest, 255 if is_colour or largest <= 255 else 65535)
    if content[:2] == _SGI_DEEP:
        return Depth("SGI", content[11] > 1, 2 ** (8 * content[3]) - 1, 255)
    if content[4:8] == b"jP  " or content.startswith(JPEG2000_SIZE):
        size = content.find(JPEG2000_SIZE)
        is_colour = int.from_bytes(content[size + 40 : size + 42], "big") > 1
        bits = (content[size + 42] & 0x7F) + 1
        largest = 2**bits - 1
        # Pillow shifts values to the top of 8 or 16 bits, but has colours of 8 bits only.
        return Depth("JPEG 2000", is_colour, largest, 255 if is_colour else largest << (-bits % 8))
    return None
