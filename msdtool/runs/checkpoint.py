"""Checkpoint files: self-describing, made of tensors and plain data only, written atomically."""

import io
import pickle
import warnings
import zipfile
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import torch

from msdtool.atomic import atomic_path
from msdtool.errors import ModelFileError
from msdtool.file_errors import cannot_read, expand_home
from msdtool.plain_data import read, shown
from msdtool.runs.consistency import check_checkpoint
from msdtool.runs.model import FORMAT, VERSION, Checkpoint
from msdtool.runs.rundir import RunDirectory, writing
from msdtool.special_files import open_regular


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; an existing file is replaced once the new one is complete.

    Raises:
        Error: it cannot be written.
    """
    # Through memory, since torch reports a failed write without the system's reason.
    buffer = io.BytesIO()
    torch.save(checkpoint.to_dict(), buffer)
    with writing(path), atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU. No code in the file is run.

    Raises:
        ModelFileError: there is none, it is not a checkpoint of msdtool, or it is damaged or
            contradicts itself; see `msdtool.runs.consistency`.
    """
    not_ours = "not a checkpoint of msdtool, or a damaged one"
    with open_file(path) as file:
        # Other files of torch are pickles, which we do not try to read.
        if not _is_archive(file):
            raise ModelFileError(f"{path}: {not_ours}")
    content = load_plain(path, not_ours)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelFileError(f"{path}: not a checkpoint of msdtool")
    version = content.get("version")
    if type(version) is not int or version != VERSION:
        raise ModelFileError(
            f"{path}: is a checkpoint of version {shown(version)}, this msdtool reads version "
            f"{VERSION}; update msdtool"
        )
    try:
        checkpoint = read(Checkpoint, content, "")
        check_checkpoint(checkpoint)
    except ValueError as error:
        raise ModelFileError(f"{path}: is damaged: {error}") from None
    return checkpoint


def open_file(path: Path) -> BufferedReader:
    """Open a model file to be read in full.

    Raises:
        ModelFileError: there is none, it is a folder, pipe or device, or may not be read.
    """
    with cannot_read(path, ModelFileError):
        return open_regular(path)


def _is_archive(file: BinaryIO) -> bool:
    """Whether a file is a zip archive as torch writes it, as large as its entries claim to be."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return False
    # Torch compresses nothing; a few compressed bytes can stand for a billion.
    return sum(entry.file_size for entry in entries) <= file.seek(0, io.SEEK_END)


def load_plain(path: Path, otherwise: str) -> Any:
    """Read tensors and plain data that torch.save wrote, onto the CPU. No code is run.

    Args:
        path: the file.
        otherwise: what the file is if it cannot be read, for the error message.

    Raises:
        ModelFileError: it cannot be read, or contains something else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that torch did not write
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "unsupported" in str(error).lower():
            raise ModelFileError(
                f"{path}: contains objects other than tensors and plain data, which may run code; "
                "it is not loaded"
            ) from None
        raise ModelFileError(f"{path}: {otherwise}") from None
    except Exception:  # torch and pickle may raise anything on arbitrary bytes
        raise ModelFileError(f"{path}: {otherwise}") from None


def find_model(path: str | Path) -> Path:
    """Return the checkpoint that MODEL names: a checkpoint file, or a run directory's best one.

    Raises:
        ModelFileError: there is none.
    """
    path = expand_home(path, ModelFileError)
    with cannot_read(None, ModelFileError):
        if not path.exists():
            raise ModelFileError(f"{path}: no such run directory or checkpoint file")
        if not path.is_dir():
            return path
        checkpoint = RunDirectory(path).model
        if checkpoint is not None:
            return checkpoint
    raise ModelFileError(
        f"{path}: no checkpoint in this folder; expected checkpoints/best.pt, which "
        "'msdtool train' writes"
    )
