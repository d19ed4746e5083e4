"""The network of a model, and its scaling of images that are read and written in parts."""

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from msdtool.data import LabelMap
from msdtool.data.levels import scaled, unscaled
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
    state, how = model.state, model.scaling
    if how.is_per_image:  # the layers hold any other levels
        way = f"{way} {how.to_dict()}"
    sums = hashlib.sha256(f"{model.architecture.to_dict()} {way}".encode())
    for name in sorted(state):
        sums.update(name.encode() + state[name].cpu().contiguous().numpy().tobytes())
    return sums.hexdigest()


class ScaledArray:
    """An array with a scaling layer on the way in or out.

    Args:
        array: in the data's units.
        layer: its first or last layer of scaling.
        device: where to compute.
        levels: of the image, by which values are scaled before the layer, or back after it.
    """

    def __init__(
        self,
        array: SlicedArray,
        layer: nn.Module,
        device: torch.device,
        levels: Tensor | None = None,
    ) -> None:
        self.array, self.layer, self.device, self.levels = array, layer, device, levels
        self.shape = array.shape

    def _layer(self, pixels: Tensor) -> Tensor:
        output: Tensor = self.layer(pixels.unsqueeze(0).to(self.device))[0].cpu()
        return output

    def __getitem__(self, key: Any) -> Any:
        pixels = torch.from_numpy(np.ascontiguousarray(self.array[key]))
        if self.levels is not None:
            pixels = scaled(pixels, self.levels)
        return self._layer(pixels).numpy()

    def __setitem__(self, key: Any, value: Any) -> None:
        pixels = self._layer(torch.from_numpy(value))
        if self.levels is not None:
            pixels = unscaled(pixels, self.levels)
        self.array[key] = pixels.numpy()
