"""A network in plain torch, for programs that do not know msdtool."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from msdtool.export.interface import LABELS, Interface
from msdtool.nn.msd import MSDModule
from msdtool.ops.reference import border_index
from msdtool.predict.network import load_network


class PlainNetwork(nn.Module):
    """What `msdtool predict` computes for an image, without engines of our own.

    All channels keep a halo of the largest dilation, which the border rule fills. A convolution
    returns as many pixels as it reads; those in its halo are wrong, and replaced at once by pixels
    inside. So all channels have one size, which spares torch the algebra of sizes: to export depth
    100 takes a third of the time that padding each layer's input takes.

    Args:
        interface: of the network.

    Raises:
        ModelFileError: the weights do not fit the architecture.
    """

    def __init__(self, interface: Interface) -> None:
        super().__init__()
        model = interface.model
        self.network, labels = load_network(model, interface.name)
        self.scaling, self.slab = model.scaling, model.slab
        self.channels = interface.slice_channels
        self.margin = 0 if model.architecture.padding == "zeros" else interface.margin
        self.shares_levels = model.task == "regression" and model.scaling.target == "input"
        self.register_buffer("values", None)
        self.values: Tensor | None
        if labels is not None:
            self.values = torch.from_numpy(np.array(labels.values, interface.outputs[LABELS]))

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map [B, c_in, *space] to values [B, c_out, *space].

        Of a segmentation, to probabilities [B, K, *space] and label values [B, 1, *space].
        """
        scale = shift = None
        if self.scaling.is_per_image:
            shift, scale = self._levels(input)
            input = (input - _repeated(shift, input)) / _repeated(scale, input)
        output = self._scaled(self._msd(self._scaled(input, "scale_in")), "scale_out")
        if shift is not None and scale is not None and self.shares_levels:
            output = output * _repeated(scale, output) + _repeated(shift, output)
        if self.values is None:
            return output
        return output.softmax(1), self.values[output.argmax(1, keepdim=True)]

    def _scaled(self, image: Tensor, name: str) -> Tensor:
        # The layer's own product takes the number of images for a constant.
        layer = getattr(self.network, name)
        return _convolution(image)(image, layer.weight, layer.bias)

    def _levels(self, input: Tensor) -> tuple[Tensor, Tensor]:
        """What is subtracted from values, and what they are divided by then, [B, C]."""
        values = input.narrow(1, self.slab * self.channels, self.channels).flatten(2)
        if self.scaling.method == "mean_std":
            values = values.double()
            mean = values.mean(2, keepdim=True)
            spread = (values - mean).square().mean(2).sqrt()
            return mean[:, :, 0].to(input), spread.to(input)
        ordered = values.sort(2).values
        last = torch.ones_like(ordered, dtype=torch.float64).sum(2, keepdim=True) - 1
        low, high = (_at(ordered, last * percent / 100) for percent in self.scaling.percentiles)
        return low.to(input), (high - low).to(input)

    def _msd(self, input: Tensor) -> Tensor:
        msd = self.network.msd
        assert isinstance(msd, MSDModule)
        block, margin, space = msd.msd_block, self.margin, input.shape[2:]
        convolve = _convolution(input)
        sources = [
            border_index(size, margin, block.padding, input.device) for size in space if margin
        ]
        features = _select(input, sources)
        sources = [source + margin for source in sources]
        biases = block.bias.split(block.width)
        for weight, bias, dilation in zip(block.weights, biases, block.dilations, strict=True):
            output = convolve(features, weight, bias, dilation=dilation, padding=dilation)
            features = torch.cat([features, _select(output.relu(), sources)], 1)
        final = msd.final_layer.linear
        weight = final.weight.unflatten(2, (1,) * len(space))
        output = convolve(features, weight, final.bias)
        for axis, size in enumerate(space, 2):
            output = output.narrow(axis, margin, size)
        return output


def _convolution(input: Tensor) -> Callable[..., Tensor]:
    """The convolution of images [B, C, H, W] or volumes [B, C, D, H, W]."""
    return F.conv2d if input.dim() == 4 else F.conv3d


def _select(input: Tensor, sources: list[Tensor]) -> Tensor:
    """Compose each spatial axis of [B, C, *space] of the positions in its source."""
    for axis, source in enumerate(sources, 2):
        input = input.index_select(axis, source)
    return input


def _at(ordered: Tensor, place: Tensor) -> Tensor:
    """Interpolate between the two ordered values [B, C, N] around a place, [B, C] in float64."""
    rank = place.floor()
    low = ordered.gather(2, rank.long()).double()
    high = ordered.gather(2, place.ceil().long()).double()
    return (low + (high - low) * (place - rank))[:, :, 0]


def _repeated(levels: Tensor, image: Tensor) -> Tensor:
    """Give levels [B, C] the axes of images [B, n * C, *space], as of slabs of n slices."""
    levels = levels.repeat(1, image.shape[1] // levels.shape[1])
    return levels.unflatten(1, (-1, *(1,) * (image.dim() - 2)))
