"""The network of a model, and its scaling of images that are read and written in parts."""

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from msdtool.data import LabelMap
from msdtool.errors import ModelFileError
from msdtool.nn.build import restore_network
from msdtool.nn.scaling import ScaledNetwork
from msdtool.ops.out_of_core.module import SlicedArray
from msdtool.runs.model import Model


def load_network(model: Model, name: str) -> tuple[ScaledNetwork, LabelMap | None]:
    """Build the network of a model and load its weights; also return a segmentation's labels.

    Args:
        model: the model.
        name: what error messages call it.

    Raises:
        ModelFileError: the weights do not fit the architecture.
    """
    try:
        network = restore_network(model.architecture, model.state)
    except ValueError as error:
        raise ModelFileError(
            f"{name}: is damaged, its weights do not fit its network: {error}"
        ) from None
    return network, LabelMap(model.labels, model.ignore) if model.labels else None


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
