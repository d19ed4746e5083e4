"""Fixed 1x1 layers that normalise data to mean 0 and standard deviation 1, and back."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from msdtool.ops.block import is_cast
from msdtool.wording import perhaps_opacity


def _apply(layer: nn.Conv2d | nn.Conv3d, input: Tensor) -> Tensor:
    """Compute a 1x1 convolution as a matrix product.

    The CPU's convolutions process 16 channels at once: a single channel would need sixteen times
    its memory, and forty times the time. Autocast leaves it alone: 16 bits do not hold the values
    of data in their own unit.
    """
    assert layer.bias is not None
    weight = layer.weight.flatten(1).expand(len(input), -1, -1)
    columns, device = input.flatten(2), input.device.type
    if is_cast(device):
        with torch.autocast(device, enabled=False):
            output = torch.baddbmm(layer.bias[:, None], weight, columns.to(weight.dtype))
    else:
        output = torch.baddbmm(layer.bias[:, None], weight, columns)
    return output.unflatten(2, input.shape[2:])


class _Scaling2d(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return _apply(self, input)


class _Scaling3d(nn.Conv3d):
    def forward(self, input: Tensor) -> Tensor:
        return _apply(self, input)


def scaling_module(c_in: int, c_out: int, *, conv3d: bool = False) -> nn.Module:
    """Return a 1x1 convolution [B, c_in, *space] to [B, c_out, *space], initially the identity.

    Its parameters are saved with the network but not trained.

    Args:
        c_in: input channels.
        c_out: output channels.
        conv3d: for volumes instead of images.
    """
    layer = (_Scaling3d if conv3d else _Scaling2d)(c_in, c_out, 1)
    assert layer.bias is not None
    nn.init.dirac_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer.requires_grad_(False)


def set_normalising(layer: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
    """Make a scaling layer map channels of the given mean and std to mean 0 and std 1."""
    scale = [1 / s for s in std]
    _set_affine(layer, scale, [-m * s for m, s in zip(mean, scale, strict=True)])


def set_denormalising(layer: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
    """Make a scaling layer map channels of mean 0 and std 1 to the given mean and std."""
    _set_affine(layer, std, mean)


def _set_affine(layer: nn.Module, scale: Sequence[float], shift: Sequence[float]) -> None:
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    diagonal = torch.diag(torch.tensor(scale, dtype=torch.float64))
    with torch.no_grad():
        weight.copy_(diagonal.reshape(weight.shape))
        bias.copy_(torch.tensor(shift, dtype=torch.float64))


class ScaledNetwork(nn.Module):
    """A network, with the layers before and after it, between its two scaling layers.

    Args:
        msd: the network.
        c_in: channels of the images.
        c_out: channels of the output.
        ndim: number of spatial axes.
        stem: layers before the network, or None.
        head: layers after the network, or None.
        scale: ratio of the output's side lengths to the input's.

    State-dict names: ``scale_in.*``, ``stem.{i}.*``, ``msd.*``, ``head.{i}.*``, ``scale_out.*``.
    """

    def __init__(
        self,
        msd: nn.Module,
        c_in: int,
        c_out: int,
        ndim: int,
        *,
        stem: nn.Module | None = None,
        head: nn.Module | None = None,
        scale: int = 1,
    ) -> None:
        super().__init__()
        self.c_in, self.c_out, self.ndim, self.scale = c_in, c_out, ndim, scale
        self.scale_in = scaling_module(c_in, c_in, conv3d=ndim == 3)
        self.stem = nn.Sequential() if stem is None else stem
        self.msd = msd
        self.head = nn.Sequential() if head is None else head
        self.scale_out = scaling_module(c_out, c_out, conv3d=ndim == 3)

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, c_in, *space] to [B, c_out, *scale*space], both in the data's own units.

        Raises:
            ValueError: the input has another number of channels, or a size that stem and head do
                not preserve.
        """
        if input.shape[1] != self.c_in:
            found = input.shape[1]
            raise ValueError(
                f"the image has {found} channels, the network takes {self.c_in}"
                f"{perhaps_opacity(found, self.c_in)}"
            )
        output: Tensor = self.head(self.msd(self.stem(self.scale_in(input))))
        expected = [self.scale * size for size in input.shape[2:]]
        if list(output.shape[2:]) != expected:
            raise ValueError(
                f"the network maps {list(input.shape[2:])} pixels to {list(output.shape[2:])}, "
                f"expected {expected}: its stem or head does not support images of this size"
            )
        output = self.scale_out(output)
        return output
