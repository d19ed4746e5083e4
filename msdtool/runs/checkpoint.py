"""Checkpoint files: self-describing, made of tensors and plain data only, written atomically."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any, TypedDict, cast

import torch
from torch import Tensor

from msdtool.atomic import atomic_path
from msdtool.errors import ModelFileError
from msdtool.runs.rundir import RunDirectory, writing

FORMAT = "msdtool checkpoint"
VERSION = 1
LATER_KEYS = {"slab": 0, "splits": 0, "strategy": "X:1"}
"""What a model is where a checkpoint was written before these keys came."""


class Normalisation(TypedDict):
    """Statistics of the training set, per channel."""

    input_mean: list[float]
    input_std: list[float]
    target_mean: list[float]
    target_std: list[float]
    data_range: float
    """Value range that PSNR and SSIM refer to; 0 for a segmentation."""
    label_counts: list[int]
    """Training pixels per label; empty for a regression."""


class Model(TypedDict):
    """A trained network and all that is needed to apply it."""

    task: str
    architecture: dict[str, Any]
    state: dict[str, Tensor]
    normalisation: Normalisation
    labels: list[int]
    ignore: int | None
    collapse_channels: bool
    slab: int
    """Slices above, and below, the central one that the input's channels hold."""
    splits: int
    """Sub-reconstructions that the network was trained on, 0 for none (Noise2Inverse)."""
    strategy: str
    """Which of them make an input: "X:1", all but one; "1:X", one."""


class Checkpoint(TypedDict):
    """A model, where it comes from, and what is needed to train it further.

    Attributes:
        model: the network.
        config: the experiment, resolved.
        progress: how far training has come.
        metrics: the newest validation metrics.
        versions: of the packages that made it.
        training: states of optimizer and schedule and the length of metrics.jsonl; empty in a
            checkpoint that is for prediction only.
    """

    model: Model
    config: dict[str, Any]
    progress: dict[str, Any]
    metrics: dict[str, Any]
    versions: dict[str, str]
    training: dict[str, Any]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; a file that was there stays until the new one is whole.

    Raises:
        Error: it cannot be written.
    """
    # Through memory, since torch reports a failed write without the system's reason.
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "version": VERSION, **checkpoint}, buffer)
    with writing(path), atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU. No code in the file is run.

    Raises:
        ModelFileError: there is none, or it is not one of ours.
    """
    try:
        with path.open("rb") as file:
            # torch would warn about some pickles, and ours are in a zip archive.
            if not zipfile.is_zipfile(file):
                raise ModelFileError(f"{path}: not a checkpoint of msdtool, or a damaged one")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelFileError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ModelFileError(f"{path}: is a folder, not a checkpoint of msdtool") from None
    except PermissionError:
        raise ModelFileError(f"{path}: no permission to read the file") from None
    except pickle.UnpicklingError as error:
        if "unsupported" in str(error).lower():
            raise ModelFileError(
                f"{path}: holds something else than tensors and plain data, which may be code; "
                "it is not loaded"
            ) from None
        raise ModelFileError(f"{path}: not a checkpoint of msdtool, or a damaged one") from None
    except ModelFileError:
        raise
    except Exception:  # whatever torch and pickle stumble over in a file of any content
        raise ModelFileError(f"{path}: not a checkpoint of msdtool, or a damaged one") from None
    return _checked(content, path)


def _checked(content: Any, path: Path) -> Checkpoint:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelFileError(f"{path}: not a checkpoint of msdtool")
    version = content.get("version")
    if version != VERSION:
        raise ModelFileError(
            f"{path}: is a checkpoint of version {version}, this msdtool reads version {VERSION}; "
            "update msdtool"
        )
    if isinstance(content.get("model"), dict):
        content["model"] = {**LATER_KEYS, **content["model"]}
    for kind, keys in ((content, Checkpoint), (content.get("model"), Model)):
        found = kind if isinstance(kind, dict) else {}
        missing = [key for key in keys.__annotations__ if key not in found]
        if missing:
            raise ModelFileError(f"{path}: is damaged, it has no {', '.join(missing)}")
    return cast(Checkpoint, {key: content[key] for key in Checkpoint.__annotations__})


def find_model(path: str | Path) -> Path:
    """Return the checkpoint that MODEL names: a checkpoint file, or a run directory's best one.

    Raises:
        ModelFileError: there is none.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise ModelFileError(f"{path}: no such run directory or checkpoint file")
    if not path.is_dir():
        return path
    directory = RunDirectory(path)
    for checkpoint in (directory.best, directory.last):
        if checkpoint.exists():
            return checkpoint
    raise ModelFileError(
        f"{path}: no checkpoint in this folder; expected checkpoints/best.pt, which "
        "'msdtool train' writes"
    )
