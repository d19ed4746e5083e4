"""Files found beside images that are not images, recognised by name.

Systems, microscopes and GIS leave them in folders of images. Only what is never an image is listed:
any other file that is not one is an error that names it, since it may be a damaged image.
"""

from pathlib import PurePath

NAMES = frozenset({"readme", "license", "changelog", "md5sums", "sha256sums", "icon\r"})
_SYSTEM = ("db", "ini", "lnk")  # Thumbs.db, desktop.ini
_NOTES = (
    "txt",
    "md",
    "rst",
    "log",
    "out",
    "err",
    "csv",
    "tsv",
    "pdf",
    "doc",
    "docx",
    "xls",
    "xlsx",
)
_PROGRAMS = ("py", "ipynb", "ijm", "html", "htm")
_METADATA = ("xml", "json", "yaml", "yml", "toml", "cfg", "conf", "ome", "md5", "sha1", "sha256")
_PLACES = ("tfw", "tifw", "tfwx", "pgw", "pngw", "jgw", "jpgw", "bpw", "wld", "prj", "qpj", "aux")
_TIFFS = ("ovr", "msk")  # smaller copies and masks of images, as GDAL writes them
_COPIES = ("bak", "tmp", "part", "partial", "crdownload")
SUFFIXES = frozenset(
    f".{suffix}"
    for kind in (_SYSTEM, _NOTES, _PROGRAMS, _METADATA, _PLACES, _TIFFS, _COPIES)
    for suffix in kind
)


def is_bystander(name: str) -> bool:
    """Whether a file of this name is not an image."""
    path = PurePath(name.lower())
    return path.name in NAMES or path.suffix in SUFFIXES or path.name.endswith("~")
