"""A small sound file of each kind that is read."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from tests.data.containers.microscopes import SLICES, write_czi, write_lif, write_nd2

SIZE = (12, 16)
PAGES = (3, *SIZE)
Array = np.ndarray[Any, np.dtype[Any]]


def _values(shape: tuple[int, ...], dtype: Any = np.uint16) -> Array:
    return np.random.default_rng(0).integers(0, 250, shape).astype(dtype)


def _tiff(
    path: Path, shape: tuple[int, ...] = SIZE, dtype: Any = np.uint16, **options: Any
) -> None:
    photometric = "rgb" if shape[-1] == 3 else "minisblack"
    axes = {"metadata": {"axes": "YXS" if photometric == "rgb" else "ZYX"[-len(shape) :]}}
    options = axes | {"photometric": photometric} | options
    tifffile.imwrite(path, _values(shape, dtype), **options)


def _imagej(path: Path) -> None:
    metadata = {"axes": "ZYX", "unit": "um", "spacing": 2.5, "zorigin": 3, "Info": "a = 1"}
    tifffile.imwrite(path, _values(PAGES), imagej=True, resolution=(4, 2), metadata=metadata)


def _ome(path: Path) -> None:
    metadata = {"axes": "ZYX", "Channel": {"Name": ["DAPI"]}, "TimeIncrement": 5.0}
    metadata |= {
        f"PhysicalSize{letter}": size for letter, size in zip("XYZ", (1, 2, 3), strict=True)
    }
    metadata["Plane"] = {"PositionX": [7.5] * 3, "PositionXUnit": ["µm"] * 3}
    tifffile.imwrite(path, _values(PAGES), ome=True, photometric="minisblack", metadata=metadata)


def _geographic(path: Path) -> None:
    numbers = ((33550, (0.5, 0.5, 0.0)), (33922, (0.0, 0.0, 0.0, 4e5, 5e6, 0.0)), (34737, "UTM|"))
    tags = [(34735, 3, 4, (1, 1, 0, 0), True)]
    tags += [
        (code, 2 if isinstance(value, str) else 12, len(value), value, True)
        for code, value in numbers
    ]
    _tiff(
        path, dtype=np.float32, extratags=tags, resolution=(300, 300), resolutionunit="CENTIMETER"
    )


def _appended(path: Path) -> None:
    for _ in range(3):
        tifffile.imwrite(path, _values(SIZE), append=True, photometric="minisblack", metadata=None)


def _pyramid(path: Path) -> None:
    with tifffile.TiffWriter(path) as tiff:
        options = {"tile": (16, 16), "photometric": "minisblack", "compression": "zlib"}
        tiff.write(_values((32, 32)), subifds=1, **options)
        tiff.write(_values((16, 16)), subfiletype=1, **options)


def _raster(path: Path, mode: str = "L", **options: Any) -> None:
    shape, dtype = {
        "L": (SIZE, np.uint8),
        "P": (SIZE, np.uint8),
        "1": (SIZE, bool),
        "I;16": (SIZE, np.uint16),
        "RGB": ((*SIZE, 3), np.uint8),
        "RGBA": ((*SIZE, 4), np.uint8),
    }[mode]
    image = Image.fromarray(_values(shape, dtype))
    (image.convert("P") if mode == "P" else image).save(path, **options)


def _animation(path: Path) -> None:
    values = _values(SIZE, np.uint8)
    frames = [Image.fromarray(frame) for frame in (values, values.T.reshape(SIZE))]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def _npy(path: Path, *, fortran: bool = False) -> None:
    values = _values(PAGES, np.float32)
    np.save(path, np.asfortranarray(values) if fortran else values)


def _hdf5(path: Path, **options: Any) -> None:
    import h5py

    says = options.pop("says", "")
    with h5py.File(path, "w", libver=options.pop("libver", "earliest")) as file:
        dataset = file.create_dataset("entry/data", data=_values(PAGES), **options)
        dataset.attrs["_FillValue"] = 3
        for axis, letter in zip(dataset.dims, "zyx", strict=True):
            axis.label = letter
        file["entry/angles"] = np.zeros(3)
        file["link"] = h5py.SoftLink("/entry/angles")
        dataset.attrs.update({"units": "counts", "scale_factor": 0.5} if says else {})
        if says == "scales":
            dataset.attrs["element_size_um"] = [2.0, 1.0, 1.0]
        for axis, letter in enumerate("zyx" if says else ""):
            scale = file.create_dataset(f"entry/{letter}", data=1.5 * np.arange(PAGES[axis]))
            scale.attrs["units"] = "um"
            if says == "scales":
                scale.make_scale(letter)
                dataset.dims[axis].attach_scale(scale)
        if says == "nexus":
            file["entry"].attrs.update({"signal": "data", "axes": list("zyx")})
            file.attrs["default"] = "entry"


def _zarr(path: Path, **options: Any) -> None:
    import zarr

    group = zarr.create_group(path, **options)
    array = group.create_array("0", shape=PAGES, dtype="uint16", chunks=(1, *SIZE))
    array[...] = _values(PAGES)
    group.create_array("1", data=_values((3, 6, 8)))
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    levels = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [2.0, 0.5 * factor, 0.5 * factor]},
                {"type": "translation", "translation": [0.0, factor, factor]},
            ],
        }
        for level, factor in enumerate((1, 2))
    ]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": levels, "version": "0.4"}]
    group.attrs["omero"] = {"channels": [{"label": "DAPI"}]}


def _list(path: Path) -> None:
    for name in ("a.tif", "b.tif"):
        _tiff(path.with_name(name))
    path.write_text("# images\na.tif\nb.tif\n*.tif\n")


CONFIG = """\
task: regression
data:
  train:
    input: {path: [a.tif, "b.t*f"], axes: YX}
    target: "*.tif"
    mask: ["@list.txt"]
  validation: {fraction: 0.5}
  crop: [8, 8]
  augment: true
network: {depth: 3, width: 1, dilations: [1, 2, 3], ndim: 2, padding: symmetric}
training: {epochs: 2, batch_size: 1, learning_rate: 1.0e-3, loss: L1, seed: 0}
run: {directory: run, previews: false}
"""


def _config(path: Path) -> None:
    _list(path.with_name("list.txt"))
    path.with_name("list.txt").write_text("a.tif\nb.tif\n")
    path.write_text(CONFIG)


Writer = Callable[[Path], None]
TIFFS: dict[str, Writer] = {
    "strips.tif": partial(_tiff, rowsperstrip=5),
    "big-endian.tif": partial(_tiff, shape=PAGES, byteorder=">"),
    "tiles.tif": partial(_tiff, tile=(16, 16), dtype=np.float32),
    "deflate.tif": partial(_tiff, compression="zlib", predictor=True, rowsperstrip=5),
    "lzw.tif": partial(_tiff, shape=PAGES, compression="lzw"),
    "packbits.tif": partial(_tiff, dtype=np.uint8, compression="packbits"),
    "jpeg.tif": partial(_tiff, dtype=np.uint8, compression="jpeg", tile=(16, 16)),
    "zstd.tif": partial(_tiff, shape=PAGES, compression="zstd", tile=(16, 16)),
    "colour.tif": partial(_tiff, shape=(*SIZE, 3), dtype=np.uint8, compression="zlib"),
    "bits.tif": partial(_tiff, dtype=bool, metadata=None),
    "big.tif": partial(_tiff, shape=PAGES, bigtiff=True),
    "ome.tif": _ome,
    "geographic.tif": _geographic,
    "imagej.tif": _imagej,
    "appended.tif": _appended,
    "pyramid.tif": _pyramid,
}
RASTERS: dict[str, Writer] = {
    "grey.png": _raster,
    "deep.png": partial(_raster, mode="I;16"),
    "palette.png": partial(_raster, mode="P"),
    "alpha.png": partial(_raster, mode="RGBA"),
    "animation.png": _animation,
    "grey.pgm": _raster,
    "bits.pbm": partial(_raster, mode="1"),
    "colour.ppm": partial(_raster, mode="RGB"),
    "grey.jpg": _raster,
    "colour.jpg": partial(_raster, mode="RGB", progressive=True),
    "grey.jp2": _raster,
    "deep.jp2": partial(_raster, mode="I;16"),
    "stream.j2k": _raster,
    "palette.gif": partial(_raster, mode="P"),
    "animation.gif": _animation,
    "grey.bmp": _raster,
    "colour.bmp": partial(_raster, mode="RGB"),
    "colour.webp": partial(_raster, mode="RGB", lossless=True),
    "animation.webp": _animation,
    "colour.tga": partial(_raster, mode="RGB", compression="tga_rle"),
    "colour.sgi": partial(_raster, mode="RGB"),
}
ARRAYS: dict[str, Writer] = {
    "plain.npy": _npy,
    "fortran.npy": partial(_npy, fortran=True),
    "pixels.raw": lambda path: _values(PAGES).tofile(path),
    "plain.h5": _hdf5,
    "chunks.h5": partial(_hdf5, chunks=(1, *SIZE), compression="gzip", shuffle=True),
    "latest.h5": partial(_hdf5, chunks=(1, *SIZE), fletcher32=True, libver="latest"),
    "scales.h5": partial(_hdf5, says="scales"),
    "nexus.h5": partial(_hdf5, says="nexus", libver="latest"),
    "two.zarr": partial(_zarr, zarr_format=2),
    "three.zarr": _zarr,
}
MICROSCOPES: dict[str, Writer] = {
    "scan.czi": lambda path: write_czi(path, _values((1, *PAGES))),
    "scan.lif": lambda path: write_lif(path, {"one": (_values(PAGES), "ZYX", {"X": 1e-6})}),
    "scan.nd2": lambda path: write_nd2(path, _values((*PAGES, 1)), {SLICES: 3}),
}
TEXTS: dict[str, Writer] = {"list.txt": _list, "config.yaml": _config}
KINDS = TIFFS | RASTERS | ARRAYS | MICROSCOPES | TEXTS


def source(path: Path) -> str:
    """How a command line names a specimen."""
    if path.suffix == ".raw":
        return f"{{path: {path}, shape: {list(PAGES)}, dtype: uint16}}"
    return f"@{path}" if path.suffix == ".txt" else str(path)
