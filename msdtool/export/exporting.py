"""Exporting a trained network to a file whose suffix tells the format."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msdtool.atomic import atomic_path, check_place
from msdtool.errors import ConfigError
from msdtool.export.interface import Interface
from msdtool.file_errors import cannot_write
from msdtool.runs.checkpoint import find_model, load_checkpoint

FORMATS = {".onnx": "ONNX", ".pt2": "torch.export", ".zip": "BioImage.IO"}


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Attributes:
        file: the new file.
        format: its format, one of `FORMATS`.
        interface: what the network takes and returns.
    """

    file: Path
    format: str
    interface: Interface

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"file": str(self.file), "format": self.format, **self.interface.to_dict()}


def export(path: Path, output: Path, *, overwrite: bool = False) -> Exported:
    """Export the network of a run directory or checkpoint.

    Args:
        path: a run directory (its best checkpoint), or a checkpoint.
        output: the file to write; its suffix is one of `FORMATS`.
        overwrite: replace a file of that name.

    Raises:
        ConfigError: the suffix is another one, or the file exists.
        ModelFileError: there is no checkpoint, it is damaged, or its network cannot be exported.
        InputError: the package onnx is missing.
        Error: the file cannot be written.
    """
    suffix = output.suffix.lower()
    if suffix not in FORMATS:
        allowed = ", ".join(f"{ending} ({name})" for ending, name in FORMATS.items())
        raise ConfigError(f"{output}: the suffix tells the format; allowed: {allowed}")
    if output.exists() and not overwrite:
        raise ConfigError(f"{output}: already exists; overwrite it", hint_key="overwrite")
    file = find_model(path)
    if output.exists() and file.samefile(output):
        raise ConfigError(f"{output}: is the network to export; choose another name")
    interface = Interface(load_checkpoint(file).model, str(file))
    with cannot_write(output):
        check_place(output)
    content = _content(interface, output, suffix)
    with cannot_write(output), atomic_path(output) as temporary:
        temporary.write_bytes(content)
    return Exported(output, FORMATS[suffix], interface)


def _content(interface: Interface, output: Path, suffix: str) -> bytes:
    # Torch's export takes seconds to import.
    match suffix:
        case ".onnx":
            from msdtool.export.onnx_network import to_onnx

            return to_onnx(interface, output)
        case ".pt2":
            from msdtool.export.pt2 import to_pt2

            return to_pt2(interface)
        case _:
            from msdtool.export.bioimage import to_bioimage

            return to_bioimage(interface, output)
