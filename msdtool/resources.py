"""Where the files beside the package lie: kernels/ and configs/, in a checkout and in a wheel."""

from pathlib import Path

PACKAGE = Path(__file__).parent


def resource_folder(name: str) -> Path:
    """Return the folder ``name`` ("kernels" or "configs").

    A wheel carries them inside the package; an editable install reads the checkout.
    """
    installed = PACKAGE / "share" / name
    return installed if installed.is_dir() else PACKAGE.parent / name
