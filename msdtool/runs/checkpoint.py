"""Checkpoint files: self-describing, made of tensors and plain data only, written atomically."""

import io
import pickle
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from msdtool.architecture import Architecture
from msdtool.atomic import atomic_path
from msdtool.errors import ModelFileError
from msdtool.file_errors import cannot_read
from msdtool.plain_data import read, shown
from msdtool.runs.consistency import check_checkpoint
from msdtool.runs.rundir import RunDirectory, writing
from msdtool.runs.training_progress import TrainingProgress

FORMAT = "msdtool checkpoint"
VERSION = 1
NOT_TRAINED = ("running_mean", "running_var", "num_batches_tracked", "._pos_grid", "._u", "._v")
"""Ends of the names of a network's tensors that are measured or fixed, not trained."""


@dataclass(frozen=True)
class Normalisation:
    """Statistics of the training set, per channel.

    Attributes:
        input_mean: of each input channel.
        input_std: of each input channel.
        target_mean: of each target channel; empty for a segmentation.
        target_std: of each target channel; empty for a segmentation.
        data_range: value range that PSNR and SSIM refer to; 0 for a segmentation.
        label_counts: training pixels per label; empty for a regression.
    """

    input_mean: tuple[float, ...]
    input_std: tuple[float, ...]
    target_mean: tuple[float, ...]
    target_std: tuple[float, ...]
    data_range: float
    label_counts: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as a checkpoint file holds it."""
        return _with_lists(vars(self))


@dataclass(frozen=True)
class Model:
    """A trained network and everything needed to apply it.

    Attributes:
        task: "regression" or "segmentation".
        architecture: of the network.
        state: its tensors, on the CPU.
        normalisation: statistics of the images that it was trained on.
        labels: label values in the order of the output channels; empty for a regression.
        ignore: target pixels of this value do not count.
        collapse_channels: the channels of each image are averaged.
        slab: slices above, and below, the central one that the input's channels hold.
        splits: sub-reconstructions that the network was trained on (Noise2Inverse); 0: none.
        strategy: which of these make an input: "X:1", all but one; "1:X", one.
    """

    task: str
    architecture: Architecture
    state: dict[str, Tensor]
    normalisation: Normalisation
    labels: tuple[int, ...]
    ignore: int | None
    collapse_channels: bool
    slab: int = 0
    splits: int = 0
    strategy: str = "X:1"

    @classmethod
    def of(
        cls,
        network: nn.Module,
        task: str,
        architecture: Architecture,
        normalisation: Normalisation,
        *,
        labels: Sequence[int] = (),
        ignore: int | None = None,
        collapse_channels: bool = False,
        slab: int = 0,
        splits: int = 0,
        strategy: str = "X:1",
    ) -> "Model":
        """Describe a network; the arguments are the attributes.

        The state of a network on the CPU is not copied: it changes when the network is trained.
        """
        return cls(
            task=task,
            architecture=architecture,
            state={name: tensor.detach().cpu() for name, tensor in network.state_dict().items()},
            normalisation=normalisation,
            labels=tuple(labels),
            ignore=ignore,
            collapse_channels=collapse_channels,
            slab=slab,
            splits=splits,
            strategy=strategy,
        )

    @property
    def num_parameters(self) -> int:
        """Number of trained parameters; scaling layers and running statistics do not count."""
        return num_parameters(self.state)

    def to_dict(self) -> dict[str, Any]:
        """Return tensors and plain data, as a checkpoint file holds them."""
        return _with_lists(vars(self)) | {
            "architecture": self.architecture.to_dict(),
            "normalisation": self.normalisation.to_dict(),
        }


@dataclass(frozen=True)
class Checkpoint:
    """A model, where it comes from, and what is needed to train it further.

    Attributes:
        model: the network.
        config: the experiment with all defaults, as plain data; empty if there was none.
        progress: how far training has progressed.
        metrics: the last validation metrics.
        versions: of the packages that wrote it.
        training: states of optimizer and schedule and the length of metrics.jsonl, and the
            network's own weights where the model has their average; empty in a checkpoint that
            is for prediction only.
    """

    model: Model
    config: dict[str, Any]
    progress: TrainingProgress
    metrics: dict[str, Any]
    versions: dict[str, str]
    training: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return tensors and plain data, as a checkpoint file holds them."""
        own = {"model": self.model.to_dict(), "progress": asdict(self.progress)}
        return {"format": FORMAT, "version": VERSION, **vars(self), **own}


def num_parameters(state: dict[str, Tensor]) -> int:
    """Count the trained parameters in the state dict of a `msdtool.nn.scaling.ScaledNetwork`."""
    return sum(
        tensor.numel()
        for name, tensor in state.items()
        if not name.startswith(("scale_in.", "scale_out.")) and not name.endswith(NOT_TRAINED)
    )


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


def open_file(path: Path) -> BinaryIO:
    """Open a model file to be read in full.

    Raises:
        ModelFileError: there is none, it is a folder or a pipe, or may not be read.
    """
    with cannot_read(path, ModelFileError):
        # A pipe would be waited for, and a device may never end.
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ModelFileError(f"{path}: is not a regular file")
        return path.open("rb")


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
    path = Path(path).expanduser()
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


def _with_lists(content: dict[str, Any]) -> dict[str, Any]:
    """Keys and values with lists in place of tuples, as YAML and JSON have them."""
    return {key: list(v) if isinstance(v, tuple) else v for key, v in content.items()}
