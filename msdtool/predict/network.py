"""The network of a model, and its scaling of images that are read and written in parts."""

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from msdtool.data import LabelMap
from msdtool.errors import ModelFileError
from msdtool.nn.build import build_network, has_all_layers
from msdtool.nn.scaling import ScaledNetwork
from msdtool.ops.out_of_core.module import SlicedArray
from msdtool.runs.checkpoint import Model


def load_network(model: Model, name: str) -> tuple[ScaledNetwork, LabelMap | None]:
    """Build the network of a model and load its weights; also return a segmentation's labels.

    Args:
        model: the model.
        name: what error messages call it.

    Raises:
        ModelFileError: the weights do not fit the architecture, or are not finite.
    """
    try:
        labels = LabelMap(model.labels, model.ignore) if model.labels else None
        if not has_all_layers(model.architecture, model.state):  # before they are made
            raise ValueError(f"it has no weights of layer {model.architecture.depth}")
        network = build_network(model.architecture)
        network.load_state_dict(model.state)
        if not all(tensor.isfinite().all() for tensor in model.state.values()):
            raise ValueError("NaN or infinite values")
    except Exception as error:  # whatever torch and the layers stumble over
        # torch says what is wrong below a heading.
        reason = str(error).split("\n")[:2][-1].strip()
        raise ModelFileError(
            f"{name}: is damaged, its weights do not fit its network: {reason}"
        ) from None
    return network, labels


def digest(model: Model, way: str) -> str:
    """Return a hash that identifies a network and the way it is used."""
    state = model.state
    sums = hashlib.sha256(f"{model.architecture.to_dict()} {way}".encode())
    for name in sorted(state):
        sums.update(name.encode() + state[name].cpu().contiguous().numpy().tobytes())
    return sums.hexdigest()


class ScaledArray:
    """An array with a scaling layer on the way in or out."""

    def __init__(self, array: SlicedArray, layer: nn.Module, device: torch.device) -> None:
        self.array, self.layer, self.device = array, layer, device
        self.shape = array.shape

    def _scale(self, pixels: Tensor) -> Any:
        return self.layer(pixels.unsqueeze(0).to(self.device))[0].cpu().numpy()

    def __getitem__(self, key: Any) -> Any:
        return self._scale(torch.from_numpy(np.ascontiguousarray(self.array[key])))

    def __setitem__(self, key: Any, value: Any) -> None:
        self.array[key] = self._scale(torch.from_numpy(value))
