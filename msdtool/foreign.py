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
from msdtool.data.extras import load_extra
from msdtool.errors import ConfigError, ModelFileError
from msdtool.nn.build import restore_network
from msdtool.nn.msd import DILATIONS
from msdtool.plain_data import fits, shown
from msdtool.runs.checkpoint import load_plain, open_file
from msdtool.runs.model import FORMAT, Checkpoint, Model, Normalisation
from msdtool.runs.training_progress import TrainingProgress
from msdtool.runs.versions import versions
from msdtool.runs.weights import check_weights

HDF5_START = b"\x89HDF\r\n\x1a\n"
MSDNET_GROUPS = ("network", "checkpoint")
MSDNET_ARRAYS = ("dl", "f", "o", "w", "oo")
MAX_CHANNELS = 4096
"""Of images: HDF5 stores any number of zeros in no space."""


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
    with open_file(path) as file:
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
        if not isinstance(name, str):
            unknown.append(shown(name))
            continue
        # DataParallel adds "module.".
        place, _, rest = name.removeprefix("module.").partition(".")
        if place == "1" and rest.startswith("0."):
            is_segmentation, rest = True, rest[2:]
        part = {"0": "scale_in", "1": "msd", "2": "scale_out"}.get(place)
        if part is None or not _is_known(part, rest) or not isinstance(tensor, Tensor):
            unknown.append(shown(name))
            continue
        state[f"{part}.{rest}"] = tensor
    if unknown or "msd.msd_block.weight0" not in state:
        raise ModelFileError(
            f"{path}: its weights are not named like those of an MSD network of msd_pytorch"
            f"{': ' + ', '.join(unknown[:3]) if unknown else ''}; networks of another kind and "
            "those of its older versions cannot be imported"
        )
    width, c_in = (*state["msd.msd_block.weight0"].shape, 0, 0)[:2]
    architecture = Architecture(
        c_in=c_in,
        c_out=state.get("msd.final_layer.linear.bias", torch.empty(0)).numel(),
        depth=sum(name.startswith("msd.msd_block.weight") for name in state),
        width=width,
        dilations=tuple(dilations),
        ndim=3 if state["msd.msd_block.weight0"].dim() == 5 else 2,
        padding="symmetric",
    )
    epoch: Any = content.get("epoch")
    return Foreign(
        "msd_pytorch",
        "segmentation" if is_segmentation else "regression",
        architecture,
        state,
        epoch if fits(epoch, int) and epoch > 0 else 0,
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
    except Exception as error:  # whatever HDF5 stumbles over in a file of any content
        reason = str(error).strip("'\"") or type(error).__name__
        raise ModelFileError(f"{path}: is damaged, or not of msdnet: {reason:.200}") from None


def _read_group(group: Any, path: Path) -> Foreign:
    missing = [key for key in ("d", "nin", "nout") if key not in group.attrs]
    missing += [key for key in MSDNET_ARRAYS if key not in group]
    if missing:
        raise ModelFileError(f"{path}: is not a network of msdnet, it has no {missing[0]}")
    c_in, c_out = _size(group, "nin"), _size(group, "nout")
    depth = _size(group, "d", most=len(group["f"]))
    arrays = {
        "msd.msd_block.bias": ("o", (depth,)),
        "msd.final_layer.linear.weight": ("w", (c_out, c_in + depth)),
        "msd.final_layer.linear.bias": ("oo", (c_out,)),
    }
    for layer in range(depth):
        arrays[f"msd.msd_block.weight{layer}"] = (f"f/{layer:05}", (c_in + layer, 3, 3))
    for part, suffix, channels in (("scale_in", "in", c_in), ("scale_out", "out", c_out)):
        if f"gam_{suffix}" in group:
            arrays[f"{part}.weight"] = (f"gam_{suffix}", (channels,))
            arrays[f"{part}.bias"] = (f"off_{suffix}", (channels,))
    state = {name: _tensor(group, *array) for name, array in arrays.items()}
    for name, tensor in state.items():
        if name.startswith("msd.msd_block.weight"):
            state[name] = tensor.unsqueeze(0)
        elif name.startswith("scale_") and name.endswith("weight"):
            state[name] = torch.diag(tensor)[..., None, None]
    state["msd.final_layer.linear.weight"] = state["msd.final_layer.linear.weight"].unsqueeze(-1)
    architecture = Architecture(
        c_in=c_in,
        c_out=c_out,
        depth=depth,
        width=1,
        dilations=tuple(int(dilation) for dilation in _tensor(group, "dl", (depth,))),
        ndim=2,
        padding="reflect",
    )
    task = "regression" if "scale_out.weight" in state else None
    return Foreign("msdnet", task, architecture, state)


def _size(group: Any, key: str, most: int = MAX_CHANNELS) -> int:
    value = float(group.attrs[key])
    if not (value.is_integer() and 0 < value <= most):
        raise ValueError(f"{key} is {value:g}; expected an integer from 1 to {most}")
    return int(value)


def _tensor(group: Any, name: str, shape: tuple[int, ...]) -> Tensor:
    """Read an array of numbers, if it has the shape that the network's sizes ask for."""
    array = group[name]
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; expected {shape}")
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} has the dtype {array.dtype}; expected numbers")
    return torch.from_numpy(array[...].astype("f8")).float()


# Checkpoints ---------------------------------------------------------------------------------


def _checkpoint(foreign: Foreign, task: str, data_range: float, path: Path) -> Checkpoint:
    """Check that the tensors fit each other, and describe them."""
    architecture = foreign.architecture
    try:
        architecture.check()
        # A scaling layer that the file does not have stays the identity.
        state = {**_identities(architecture, foreign.state), **foreign.state}
        check_weights(architecture, state, "state")
        network = restore_network(architecture, state)
    except ValueError as error:
        raise ModelFileError(
            f"{path}: is damaged, its weights do not fit each other: {error}"
        ) from None
    num_labels = foreign.architecture.c_out if task == "segmentation" else 0
    model = Model.of(
        network,
        task,
        foreign.architecture,
        _normalisation(network.state_dict(), num_labels, data_range),
        labels=range(num_labels),
    )
    progress = TrainingProgress(epoch=foreign.epoch)
    return Checkpoint(model, {}, progress, metrics={}, versions=versions(), training={})


def _identities(architecture: Architecture, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the scaling layers that a state does not have."""
    found = {}
    for part, channels in (("scale_in", architecture.c_in), ("scale_out", architecture.c_out)):
        if f"{part}.weight" in state:
            continue
        if channels > MAX_CHANNELS:
            raise ValueError(f"it claims {channels} channels; at most {MAX_CHANNELS} are supported")
        found[f"{part}.weight"] = torch.eye(channels)[(..., *(None,) * architecture.ndim)]
        found[f"{part}.bias"] = torch.zeros(channels)
    return found


def _normalisation(state: dict[str, Tensor], num_labels: int, data_range: float) -> Normalisation:
    """Describe the data by the scaling layers; the layers themselves are what is applied."""
    scale = state["scale_in.weight"].flatten(1).diagonal().double()
    scale = torch.where(scale == 0, 1.0, scale)  # that of a layer may have any sign
    shift = state["scale_in.bias"].double()
    target_mean = state["scale_out.bias"].tolist()
    spread = state["scale_out.weight"].flatten(1).diagonal().abs()
    target_std = torch.where(spread == 0, 1.0, spread).tolist()
    return Normalisation(
        input_mean=tuple((-shift / scale).tolist()),
        input_std=tuple((1 / scale).abs().tolist()),
        target_mean=() if num_labels else tuple(target_mean),
        target_std=() if num_labels else tuple(target_std),
        data_range=0.0 if num_labels else data_range,
        label_counts=(0,) * num_labels,
    )
