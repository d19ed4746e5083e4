"""Where kernels/ and configs/ are found: in a checkout beside the package, in a wheel inside it."""

from pathlib import Path

PACKAGE = Path(__file__).parent


def resource_folder(name: str) -> Path:
    """Return the folder ``name`` ("kernels" or "configs").

    A wheel carries both inside the package; an editable install reads the checkout.
    """
    installed = PACKAGE / "share" / name
    return installed if installed.is_dir() else PACKAGE.parent / name
