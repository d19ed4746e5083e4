"""Files of microscopes: CZI by its maker's library; LIF and ND2, for which there is no writer, as
their readers describe them."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pylibCZIrw import czi

Array = np.ndarray[Any, np.dtype[Any]]
LIF_BLOCK, LIF_MARK = 0x70, 0x2A
LIF_DIMENSIONS = {"X": 1, "Y": 2, "Z": 3, "T": 4, "M": 10}
ND2_CHUNK, ND2_VERSION = 0x0ABECEDA, b"Ver2.1"
TIME, POSITIONS, SLICES = 1, 2, 4
"""The loops of an ND2."""


def write_czi(
    path: Path, array: Array, *, scenes: int = 1, leave_out: Sequence[tuple[int, int]] = ()
) -> None:
    """Write [C, Z, Y, X], or [C, Z, Y, X, 3], to each scene, with its number added to pixels."""
    with czi.create_czi(str(path)) as file:
        for scene in range(scenes):
            for c, z in np.ndindex(array.shape[:2]):
                if (c, z) in leave_out:
                    continue
                image = array[c, z] + array.dtype.type(scene)
                image = image[..., ::-1] if image.ndim == 3 else image[..., np.newaxis]
                place = {"location": (500 * scene, 0), "scene": scene}
                file.write(np.ascontiguousarray(image), plane={"C": c, "Z": z}, **place)
        names = dict(enumerate(("DAPI", "GFP")[: len(array)]))
        scales = {"scale_x": 0.25e-6, "scale_y": 0.5e-6, "scale_z": 2e-6}
        file.write_metadata("a", channel_names=names, **scales)


def write_lif(path: Path, images: Mapping[str, tuple[Array, str, Mapping[str, float]]]) -> None:
    """Write arrays by name with their axes, of which C is one, and steps in metres or seconds."""
    elements, blocks = "", b""
    for number, (name, (array, axes, steps)) in enumerate(images.items()):
        strides = dict(zip(axes, array.strides, strict=True))
        sizes = dict(zip(axes, array.shape, strict=True))
        channels = "".join(
            f'<ChannelDescription DataType="{int(array.dtype.kind == "f")}" ChannelTag="0" '
            f'Resolution="{8 * array.itemsize}" Min="0" Max="1" Unit="" NameOfMeasuredQuantity="" '
            f'LUTName="Red" IsLUTInverted="0" BytesInc="{k * strides.get("C", 0)}" BitInc="0"/>'
            for k in range(sizes.get("C", 1))
        )
        dimensions = "".join(
            f'<DimensionDescription DimID="{kind}" NumberOfElements="{sizes[letter]}" Origin="0" '
            f'Length="{(sizes[letter] - 1) * steps.get(letter, 0)}" '
            f'Unit="{"s" if letter == "T" else "m"}" BitInc="0" BytesInc="{strides[letter]}"/>'
            for letter, kind in LIF_DIMENSIONS.items()
            if letter in sizes
        )
        elements += (
            f'<Element Name="{name}" UniqueID="{number}"><Data><Image><ImageDescription><Channels>'
            f"{channels}</Channels><Dimensions>{dimensions}</Dimensions></ImageDescription>"
            f'</Image></Data><Memory Size="{array.nbytes}" MemoryBlockID="Block_{number}"/>'
            "<Children/></Element>"
        )
        block = f"Block_{number}"
        text = block.encode("utf-16-le")
        header = (LIF_BLOCK, 14 + len(text), LIF_MARK, array.nbytes, LIF_MARK, len(block))
        blocks += struct.pack("<IIBQBI", *header) + text + array.tobytes()
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="a" UniqueID="a"><Data><Experiment/>'
        f'</Data><Memory Size="0" MemoryBlockID="Block_a"/><Children>{elements}</Children>'
        "</Element></LMSDataContainerHeader>"
    )
    text = xml.encode("utf-16-le")
    header = struct.pack("<IIBI", LIF_BLOCK, 5 + len(text), LIF_MARK, len(xml))
    path.write_bytes(header + text + blocks)


def write_nd2(path: Path, frames: Array, loops: Mapping[int, int], *, stored: int = 0) -> None:
    """Write frames [N, Y, X, C] of these loops, outer ones first; of ``stored`` frames if given."""
    count, height, width, channels = frames.shape
    bits = 8 * frames.itemsize
    attributes = {
        "uiWidth": width,
        "uiHeight": height,
        "uiWidthBytes": width * channels * frames.itemsize,
        "uiComp": channels,
        "uiBpcInMemory": bits,
        "uiBpcSignificant": bits,
        "uiSequenceCount": stored or count,
        "eCompression": 2,
    }
    probe = {"m_ExcitationSpectrum": {"uiCount": 0}}
    planes = {
        f"a{k}": {
            "sDescription": name,
            "uiCompCount": 1,
            "uiColor": 255,
            "pFluorescentProbe": probe,
        }
        for k, name in enumerate(("DAPI", "GFP")[:channels])
    }
    picture = {
        "bCalibrated": True,
        "dCalibration": 0.25,
        "sPicturePlanes": {"uiCount": channels, "sPlaneNew": planes},
    }
    chunks = {
        "ImageAttributes!": _xml("variant", {"SLxImageAttributes": attributes}),
        "ImageMetadataSeq|0!": _xml("variant", {"SLxPictureMetadata": picture}),
    }
    if loops:
        chunks["ImageMetadata!"] = _xml("variant", {"SLxExperiment": _loops(list(loops.items()))})
    content, table = bytearray(), b""

    def add(name: bytes, data: bytes, reserved: int) -> bytes:
        place = struct.pack("<QQ", len(content), len(data))
        content.extend(struct.pack("<IIQ", ND2_CHUNK, reserved, len(data)))
        content.extend(name.ljust(reserved, b"\0") + data)
        return name + place

    add(b"ND2 FILE SIGNATURE CHUNK NAME01!", ND2_VERSION.ljust(64, b"\0"), 32)
    for name, text in chunks.items():
        table += add(name.encode(), text.encode(), len(name) + 20)
    for number in range(stored or count):
        table += add(f"ImageDataSeq|{number}!".encode(), bytes(8) + frames[number].tobytes(), 4072)
    end = b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", len(content))
    add(b"ND2 FILEMAP SIGNATURE NAME 0001!", table + end, 32)
    path.write_bytes(content)


def _loops(loops: Sequence[tuple[int, int]]) -> dict[str, Any]:
    (kind, count), *inner = loops
    parameters: dict[str, Any] = {"uiCount": count}
    found: dict[str, Any] = {"eType": kind, "uLoopPars": parameters}
    if kind == TIME:
        parameters |= {"dStart": 0.0, "dPeriod": 500.0, "dDuration": 500.0 * count}
    elif kind == SLICES:
        parameters["dZStep"] = 2.0
    else:
        numbers = [f"i{number:010}" for number in range(count)]
        parameters["Points"] = {n: {"dPosX": 1.0, "dPosY": 0.0, "dPosZ": 0.0} for n in numbers}
        found["pItemValid"] = dict.fromkeys(numbers, True)
    if inner:
        found["ppNextLevelEx"] = {"i0000000000": _loops(inner)}
    return found


def _xml(name: str, value: Any) -> str:
    if isinstance(value, dict):
        content = "".join(_xml(key, item) for key, item in value.items())
        return f'<{name} runtype="CLxListVariant">{content}</{name}>'
    kinds = {bool: "bool", int: "lx_uint32", float: "double", str: "CLxStringW"}
    text = str(value).lower() if value is True else value
    return f'<{name} runtype="{kinds[type(value)]}" value="{text}"/>'
