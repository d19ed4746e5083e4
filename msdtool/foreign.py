"""Networks that other packages trained, converted to checkpoints.

msd_pytorch (``MSDModel.save``, a .torch file): a dict with epoch, state_dict and optimizer. The
network is the sequence of a 1x1 layer that scales the input, the MSD module and, for a regression,
a 1x1 layer that scales the output; for a segmentation, module and log-softmax are a sequence of
their own. The padding is symmetric. Dilations are not saved.

msdnet (``Network.to_file``, HDF5): a group with the attributes d (depth), nin and nout and the
arrays dl (dilations), f/00000 ... [nin + i, 3, 3], o [d] (biases), w [nout, nin + d], oo [nout]
(biases), gam_in and off_in [nin], gam_out and off_out [nout] (gamma * value + offset, if the
network was normalised). The width is 1, the padding reflects without repeating the edge. The task
is not saved, but only a regression scales its output.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msdtool.architecture import Architecture
from msdtool.data.containers.extras import load_extra
from msdtool.errors import ConfigError, ModelFileError
from msdtool.file_errors import cannot_read
from msdtool.nn.build import build_network
from msdtool.nn.msd import DILATIONS
from msdtool.runs.checkpoint import FORMAT, Checkpoint, Model, Normalisation, load_plain
from msdtool.runs.training_progress import TrainingProgress
from msdtool.runs.versions import versions

HDF5_START = b"\x89HDF\r\n\x1a\n"
MSDNET_GROUPS = ("network", "checkpoint")
MSDNET_ARRAYS = ("dl", "f", "o", "w", "oo")


@dataclass(frozen=True)
class Foreign:
    """A network as a file describes it.

    Attributes:
        origin: the package that trained it.
        task: regression or segmentation; None: the file does not say.
        architecture: of the network.
        state: its tensors, by the names of a `ScaledNetwork`.
        epoch: number of epochs it was trained for; 0 if unknown.
    """

    origin: str
    task: str | None
    architecture: Architecture
    state: dict[str, Tensor]
    epoch: int = 0


def import_model(
    path: Path,
    *,
    task: str | None = None,
    dilations: Sequence[int] | None = None,
    data_range: float = 1.0,
) -> tuple[Checkpoint, str]:
    """Read a file of msd_pytorch or msdnet. No code in it is run.

    Args:
        path: the file.
        task: regression or segmentation; required if the file does not record the task.
        dilations: of a network of msd_pytorch; None: 1 to 10, which is also its default.
        data_range: value range that PSNR and SSIM of a regression should refer to.

    Returns:
        A checkpoint for prediction, and the name of the package.

    Raises:
        ModelFileError: the file is of neither package, or of a version whose networks differ.
        ConfigError: the file contradicts an argument, or one is missing.
    """
    with cannot_read(path, ModelFileError), path.open("rb") as file:
        start = file.read(len(HDF5_START))
    if start == HDF5_START:
        if dilations is not None:
            raise ConfigError(
                "dilations: a file of msdnet records them; leave them out", hint_key="dilations"
            )
        foreign = _read_msdnet(path)
    else:
        foreign = _read_msd_pytorch(path, list(dilations or DILATIONS))
    if foreign.task and task and foreign.task != task:
        raise ConfigError(
            f"task is {task}: the network in {path} is a {foreign.task}", hint_key="task"
        )
    chosen = foreign.task or task
    if chosen is None:
        raise ConfigError(
            f"{path}: does not say whether the network is a regression or a segmentation; set "
            "the task",
            hint_key="task",
        )
    return _checkpoint(foreign, chosen, data_range, path), foreign.origin


# msd_pytorch ---------------------------------------------------------------------------------


def _read_msd_pytorch(path: Path, dilations: list[int]) -> Foreign:
    content = load_plain(path, "is a file of neither msd_pytorch nor msdnet")
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), Mapping):
        if isinstance(content, dict) and content.get("format") == FORMAT:
            raise ModelFileError(f"{path}: is already a checkpoint of msdtool; use it directly")
        raise ModelFileError(
            f"{path}: is not what msd_pytorch's MSDModel.save writes, it has no state_dict"
        )
    state, unknown = {}, []
    is_segmentation = False
    for name, tensor in content["state_dict"].items():
        # DataParallel adds "module.".
        place, _, rest = name.removeprefix("module.").partition(".")
        if place == "1" and rest.startswith("0."):
            is_segmentation, rest = True, rest[2:]
        part = {"0": "scale_in", "1": "msd", "2": "scale_out"}.get(place)
        if part is None or not _is_known(part, rest) or not isinstance(tensor, Tensor):
            unknown.append(name)
        state[f"{part}.{rest}"] = tensor.float() if isinstance(tensor, Tensor) else tensor
    if unknown or "msd.msd_block.weight0" not in state:
        raise ModelFileError(
            f"{path}: its weights are not named like those of an MSD network of msd_pytorch"
            f"{': ' + ', '.join(unknown[:3]) if unknown else ''}; networks of another kind and "
            "those of its older versions cannot be imported"
        )
    width, c_in, *taps = state["msd.msd_block.weight0"].shape or (0, 0)
    architecture = Architecture(
        c_in=c_in,
        c_out=state.get("msd.final_layer.linear.bias", torch.empty(0)).numel(),
        depth=sum(name.startswith("msd.msd_block.weight") for name in state),
        width=width,
        dilations=tuple(dilations),
        ndim=3 if len(taps) == 3 else 2,
        padding="symmetric",
    )
    epoch = content.get("epoch")
    return Foreign(
        "msd_pytorch",
        "segmentation" if is_segmentation else "regression",
        architecture,
        state,
        epoch if isinstance(epoch, int) else 0,
    )


def _is_known(part: str, name: str) -> bool:
    if part == "msd":
        pattern = r"msd_block\.(bias|weight\d+)|final_layer\.linear\.(weight|bias)"
        return re.fullmatch(pattern, name) is not None
    return name in ("weight", "bias")


# msdnet --------------------------------------------------------------------------------------


def _read_msdnet(path: Path) -> Foreign:
    h5py = load_extra("h5py", path)
    try:
        with h5py.File(path, "r") as file:
            name = next((name for name in MSDNET_GROUPS if name in file), None)
            if name is None:
                raise ModelFileError(
                    f"{path}: is an HDF5 file without the group that msdnet writes, "
                    f"{' or '.join(MSDNET_GROUPS)}"
                )
            return _read_group(file[name], path)
    except ModelFileError:
        raise
    except (OSError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ModelFileError(f"{path}: is damaged, or not of msdnet: {error}") from None


def _read_group(group: Any, path: Path) -> Foreign:
    missing = [key for key in ("d", "nin", "nout") if key not in group.attrs]
    missing += [key for key in MSDNET_ARRAYS if key not in group]
    if missing:
        raise ModelFileError(f"{path}: is not a network of msdnet, it has no {missing[0]}")
    depth, c_in, c_out = (int(group.attrs[key]) for key in ("d", "nin", "nout"))

    def tensor(name: str) -> Tensor:
        return torch.from_numpy(group[name][...]).float()

    state = {
        "msd.msd_block.bias": tensor("o"),
        "msd.final_layer.linear.weight": tensor("w").unsqueeze(-1),
        "msd.final_layer.linear.bias": tensor("oo"),
    }
    for layer in range(depth):
        state[f"msd.msd_block.weight{layer}"] = tensor(f"f/{layer:05}").unsqueeze(0)
    for part, suffix in (("scale_in", "in"), ("scale_out", "out")):
        if f"gam_{suffix}" in group:
            gamma = tensor(f"gam_{suffix}")
            state[f"{part}.weight"] = torch.diag(gamma)[..., None, None]
            state[f"{part}.bias"] = tensor(f"off_{suffix}")
    architecture = Architecture(
        c_in=c_in,
        c_out=c_out,
        depth=depth,
        width=1,
        dilations=tuple(int(dilation) for dilation in group["dl"][...]),
        ndim=2,
        padding="reflect",
    )
    task = "regression" if "scale_out.weight" in state else None
    return Foreign("msdnet", task, architecture, state)


# Checkpoints ---------------------------------------------------------------------------------


def _checkpoint(foreign: Foreign, task: str, data_range: float, path: Path) -> Checkpoint:
    """Check that the tensors fit each other, and describe them."""
    try:
        network = build_network(foreign.architecture)
        # A scaling layer that the file does not have stays the identity.
        missing = network.load_state_dict(foreign.state, strict=False)
        absent = [name for name in missing.missing_keys if not name.startswith("scale_")]
        if absent or missing.unexpected_keys:
            raise ValueError(f"no {', '.join(absent)}")
        if not all(tensor.isfinite().all() for tensor in foreign.state.values()):
            raise ValueError("NaN or infinite values")
    except (RuntimeError, ValueError, KeyError, IndexError, ZeroDivisionError) as error:
        reason = str(error).split("\n")[:2][-1].strip()
        raise ModelFileError(
            f"{path}: is damaged, its weights do not fit each other: {reason}"
        ) from None
    num_labels = foreign.architecture.c_out if task == "segmentation" else 0
    model = Model.of(
        network,
        task,
        foreign.architecture,
        _normalisation(network.state_dict(), num_labels, data_range),
        labels=range(num_labels),
    )
    return Checkpoint(
        model=model,
        config={},
        progress=TrainingProgress(epoch=foreign.epoch),
        metrics={},
        versions=versions(),
        training={},
    )


def _normalisation(state: dict[str, Tensor], num_labels: int, data_range: float) -> Normalisation:
    """Describe the data by the scaling layers; the layers themselves are what is applied."""
    scale = state["scale_in.weight"].flatten(1).diagonal().double()
    scale = torch.where(scale == 0, 1.0, scale)
    shift = state["scale_in.bias"].double()
    target_mean = state["scale_out.bias"].tolist()
    target_std = state["scale_out.weight"].flatten(1).diagonal().tolist()
    return Normalisation(
        input_mean=tuple((-shift / scale).tolist()),
        input_std=tuple((1 / scale).tolist()),
        target_mean=() if num_labels else tuple(target_mean),
        target_std=() if num_labels else tuple(target_std),
        data_range=0.0 if num_labels else data_range,
        label_counts=(0,) * num_labels,
    )
