"""Layers with state, made for tests."""

import torch
from torch import nn

from msdtool.nn.streaming import (
    Conv1d,
    Conv3d,
    Delay,
    Layer,
    TemporalLowPassFilterRecursive,
)
from tests.nn.streaming.test_convolution import filled


class Sum(Layer):
    """Running sum, whose state is a tensor in its graph, a list and a number."""

    dim = 3
    outputs = ("total", "count")

    def __init__(self, weight=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))
        self.register_state("sum", None)
        self.register_state("lengths", [])

    def forward(self, x):
        sums = (self.weight * x).cumsum(0)
        if self.sum is not None:
            sums = sums + self.sum
        self.sum = sums[-1:]
        self.lengths.append(len(x))
        self.total = sums.sum((1, 2))
        self.count = torch.ones(len(x))
        return sums


class Nested(Layer):
    """Layers inside layers and inside torch's own containers."""

    dim = 5

    def __init__(self):
        super().__init__()
        self.first = filled(Conv3d(1, 2, (3, 3, 1)))
        self.rest = nn.Sequential(
            nn.ReLU(),
            filled(Conv1d(2, 1, 4, dilation=2)),
            Delay(3),
            TemporalLowPassFilterRecursive().double(),
        )

    def forward(self, x):
        return self.rest(self.first(x))
