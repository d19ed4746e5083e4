"""NeXus: which dataset of a file is to be shown, and where its pixels are.

https://manual.nexusformat.org/datarules.html and the class NXdata. Also Data Exchange, which keeps
a scan beside its white and dark images: https://dxfile.readthedocs.io.
"""

from collections.abc import Collection
from typing import Any

SCAN, OTHER_IMAGES = "/exchange/data", ("/exchange/data_white", "/exchange/data_dark")
DEEPEST = 8


def text(value: Any) -> str:
    """Return an attribute's text, whichever way HDF5 stores it."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def default(file: Any, images: Collection[str]) -> str | None:
    """Return the dataset that a file says to be the one to show; None if it does not say.

    Args:
        file: of h5py.
        images: paths of the datasets that could be images.
    """
    group = file["/"]
    for _ in range(DEEPEST):
        signal = group.attrs.get("signal")
        if signal is not None:
            return _within(group, text(signal), images)
        name = group.attrs.get("default")
        group = None if name is None else group.get(text(name))
        if not hasattr(group, "attrs"):
            break
    return SCAN if {SCAN} < set(images) <= {SCAN, *OTHER_IMAGES} else None


def _within(group: Any, name: str, images: Collection[str]) -> str | None:
    path = f"{group.name.rstrip('/')}/{name}"
    return path if path in images else None


def axes(dataset: Any) -> dict[int, Any]:
    """Return the positions along each axis that the group of a dataset names, by axis."""
    group = dataset.parent
    names = group.attrs.get("axes", dataset.attrs.get("axes", ()))
    if isinstance(names, str | bytes):
        names = text(names).strip("[]").replace(",", ":").split(":")
    if len(names) != dataset.ndim:
        return {}
    found = {axis: group.get(text(name)) for axis, name in enumerate(names)}
    return {axis: scale for axis, scale in found.items() if hasattr(scale, "shape")}
