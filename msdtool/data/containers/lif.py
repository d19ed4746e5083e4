"""LIF, as microscopes of Leica write it: read plane by plane."""

from contextlib import closing
from pathlib import Path
from typing import Any

from msdtool.data.containers.planes import Planes, check_axes, chosen
from msdtool.data.extras import load_extra
from msdtool.data.metadata import Metadata, microscopes
from msdtool.errors import InputError
from msdtool.specifier_grammar import Location


def open_lif(location: Location) -> Planes:
    """Open an image of a LIF file.

    Raises:
        InputError: liffile is not installed, there is no such image, or not all of its axes are
            known.
    """
    file = _open(location.path)
    try:
        images = _images(file)
        image = images[_chosen(location, images)]
        check_axes(location.path, image.sizes)
        if image.is_flim:
            raise InputError(f"{location}: holds lifetimes of photons; export them as images")
        per_plane = len(image.frames.frame_dims)
        return Planes(
            image.sizes, image.dtype, lambda index: image.frames[index], per_plane, file.close
        )
    except BaseException:
        file.close()
        raise


def count_images(path: Path) -> int:
    """Number of images in a LIF file."""
    with closing(_open(path)) as file:
        return len(_images(file))


def describe_lif(location: Location, _axes: str) -> Metadata:
    """Return what a LIF file says besides the pixels."""
    with closing(_open(location.path)) as file:
        images = _images(file)
        return microscopes.read_lif(images[_chosen(location, images)].coords)


def _open(path: Path) -> Any:
    return load_extra("liffile", path).LifFile(path)


def _images(file: Any) -> dict[str, Any]:
    """The images by their paths in the file, which an image of the same name may share."""
    found: dict[str, Any] = {}
    for image in file.images:
        path, number = image.path, 2
        while path in found:
            path, number = f"{image.path} ({number})", number + 1
        found[path] = image
    return found


def _chosen(location: Location, images: dict[str, Any]) -> str:
    shapes = {name: tuple(image.shape) for name, image in images.items()}
    return chosen(location.path, location.inner, shapes)
