"""Mixed-Scale Dense networks with any operation, normalisation and activation, in plain torch.

Shapes: B batch, C channels, *space the two or three spatial axes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from msdtool.nn.layers.basic import by_ndim
from msdtool.nn.msd import MSDFinalLayer, init_convolution_weights
from msdtool.nn.yaml_layers.registry import ACTIVATIONS, LAYERS, NORMS, make_layer, split
from msdtool.ops.checks import check_dilations, check_network
from msdtool.ops.engine import channels_before
from msdtool.ops.reference import pad

CONVOLUTION = "conv"
"""The name of the operation of `MSDModule`."""


class GeneralMSDModule(nn.Module):
    """A Mixed-Scale Dense network whose hidden layers are not just convolution and ReLU.

    Each hidden layer maps all preceding channels to ``width`` more: operation, bias, normalisation,
    activation. In training, operations are computed twice, so that only the output of each layer is
    kept for the backward pass.

    Args:
        c_in: input channels.
        c_out: output channels.
        depth: hidden layers.
        width: channels per hidden layer.
        dilations: one per layer; a shorter list is repeated cyclically.
        ndim: number of spatial axes, 2 or 3.
        padding: "symmetric", "reflect" or "zeros", which for a semifield is its own zero.
        operation: "conv", a convolution with 3 taps per axis, or a planned `GenericConv`, whose
            dilation, padding and channels are set layer by layer.
        activation: a layer of `msdtool.nn.yaml_layers.registry.ACTIVATIONS`.
        norm: a planned layer of `msdtool.nn.yaml_layers.registry.NORMS`, or None.

    State-dict names: ``layers.{i}.operation.*``, ``layers.{i}.bias`` [width],
    ``layers.{i}.norm.*``, ``final_layer.linear.*``.

    Raises:
        ValueError: the kernel size is even, a number is not positive, or ndim or padding is another
            one.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        depth: int,
        width: int,
        dilations: Sequence[int],
        ndim: int = 2,
        padding: str = "symmetric",
        operation: Any = CONVOLUTION,
        activation: Any = "ReLU",
        norm: Any = None,
    ) -> None:
        super().__init__()
        check_network(depth, width, dilations, ndim, padding, c_in=c_in, c_out=c_out)
        self.c_in, self.c_out = c_in, c_out
        self.padding = padding
        layers = []
        for layer in range(depth):
            channels = channels_before(c_in, width, layer)
            dilation = dilations[layer % len(dilations)]
            if operation == CONVOLUTION:
                computation = _convolution(channels, width, dilation, ndim)
                weight = computation.get_parameter("weight")
                init_convolution_weights(weight, c_in, c_out, width, depth)
            else:
                computation = _semifield(operation, channels, width, dilation, padding)
            pads_itself = operation != CONVOLUTION and padding == "zeros"
            layers.append(
                _HiddenLayer(
                    computation,
                    width,
                    None if pads_itself else (dilation * _reach(operation), padding),
                    make_layer(ACTIVATIONS, *split(activation)),
                    None if norm is None else make_layer(NORMS, *split(norm)),
                )
            )
        self.margin = _reach(operation) * max(dilations[:depth])
        self.layers = nn.ModuleList(layers)
        self.final_layer = MSDFinalLayer(channels_before(c_in, width, depth), c_out)

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, c_in, *space] to [B, c_out, *space].

        Raises:
            ValueError: the image is too small for the padding of the layer with the largest reach.
        """
        check_dilations([self.margin], tuple(input.shape[2:]), self.padding)
        features = [input]
        for layer in self.layers:
            features.append(layer(*features))
        result: Tensor = self.final_layer(torch.cat(features, 1))
        return result


class _HiddenLayer(nn.Module):
    def __init__(
        self,
        operation: nn.Module,
        width: int,
        border: tuple[int, str] | None,
        activation: nn.Module,
        norm: nn.Module | None,
    ) -> None:
        super().__init__()
        self.operation = operation
        self.border = border
        self.bias = nn.Parameter(torch.zeros(width))
        self.norm = norm
        self.activation = activation

    def forward(self, *features: Tensor) -> Tensor:
        """Map all preceding channels, tensors [B, c, *space], to [B, width, *space]."""
        if torch.is_grad_enabled():
            output = checkpoint(
                self._operate, *features, use_reentrant=False, preserve_rng_state=False
            )
        else:
            output = self._operate(*features)
        output = output + self.bias.reshape(-1, *(1,) * (output.dim() - 2))
        if self.norm is not None:
            output = self.norm(output)
        result: Tensor = self.activation(output)
        return result

    def _operate(self, *features: Tensor) -> Tensor:
        input = torch.cat(features, 1)
        if self.border is not None:
            input = pad(input, *self.border)
        output: Tensor = self.operation(input)
        return output


def _convolution(channels: int, width: int, dilation: int, ndim: int) -> nn.Module:
    kind = by_ndim((nn.Conv1d, nn.Conv2d, nn.Conv3d), ndim)
    return kind(channels, width, 3, dilation=dilation, bias=False)


def _semifield(operation: Any, channels: int, width: int, dilation: int, padding: str) -> nn.Module:
    """The planned `GenericConv` with the channels and dilation of a layer."""
    name, arguments = split(operation)
    kernel, sizes = split(arguments["kernel"])
    if sizes["kernel_size"] % 2 == 0:
        raise ValueError(f"kernel_size is {sizes['kernel_size']}; hidden layers need an odd one")
    complete = {
        **arguments,
        "kernel": {kernel: {**sizes, "in_channels": channels, "out_channels": width}},
        "dilation": dilation,
        "padding": "same" if padding == "zeros" else "valid",
    }
    made: nn.Module = make_layer(LAYERS, name, complete)
    return made


def _reach(operation: Any) -> int:
    """Return the pixels from the centre of an operation's kernel to its edge, at dilation 1."""
    if operation == CONVOLUTION:
        return 1
    _, arguments = split(operation)
    return int(split(arguments["kernel"])[1]["kernel_size"]) // 2
