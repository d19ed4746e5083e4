"""A network of stitched layers."""

from torch import Tensor, nn

from msdtool.nn import (
    MSDLayerModule,
    StitchBuffer,
    StitchCopyModule,
    units_in_front,
)
from tests.ops.formula import Problem

NEAR = {"rtol": 1e-10, "atol": 1e-10}


class StitchedBlock(nn.Module):
    """The hidden layers of an MSD network, layer by layer in one buffer."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.buffer = StitchBuffer()
        self.width, self.c_in = problem.weights[0].shape[:2]
        self.stitch = StitchCopyModule(self.buffer, 0)
        self.layers = nn.ModuleList()
        biases = problem.bias.detach().clone().split(self.width)
        for i, (weight, bias) in enumerate(zip(problem.weights, biases, strict=True)):
            dilation = problem.dilations[i % len(problem.dilations)]
            layer = MSDLayerModule(self.buffer, self.c_in, i, self.width, dilation)
            layer.weight = nn.Parameter(weight.detach().clone())
            layer.bias = nn.Parameter(bias)
            self.layers.append(layer)

    def forward(self, input: Tensor) -> Tensor:
        batch, _, *space = input.shape
        channels = units_in_front(self.c_in, self.width, len(self.layers))
        self.buffer.like_(input, (batch, channels, *space))
        features = self.stitch(input)
        for layer in self.layers:
            features = layer(features)
        return features

    def leaves(self) -> list[Tensor]:
        return [layer.weight for layer in self.layers] + [layer.bias for layer in self.layers]
