"""How the layers of a network are cut into passes over channels that lie outside of memory.

More layers in a pass mean fewer passes over the channels, but a wider halo to compute twice, and
more channels in a strip, which is so much narrower: `Planner` weighs them.

A slice is one index of the first spatial axis: a row in 2D, a plane of rows in 3D.
"""

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from msdtool.ops.engine import Network
from msdtool.ops.engines import auto_engine

# What reading or writing a byte of the channels costs in arithmetic. On two AVX-512 cores 120
# GFLOP/s of the engine against 2.7 GB/s from the system's cache of a file; a slow disk costs more.
# On GPUs an estimate: 10 TFLOP/s against 10 GB/s over the bus.
FLOPS_PER_BYTE_CPU = 45
FLOPS_PER_BYTE_DEVICE = 1000


@dataclass(frozen=True)
class Pass:
    """Layers computed together, and the slices of a strip they leave unspoiled.

    Attributes:
        layers: of the network.
        halo: slices on each side of a strip that are spoiled.
        strip_slices: slices of a strip that are not.
        cost: of an unspoiled pixel, in floating-point operations.
    """

    layers: range
    halo: int
    strip_slices: int
    cost: float


@dataclass(frozen=True)
class Planner:
    """Cuts the layers of a network into passes.

    Args:
        network: the layers.
        space: size of the image.
        strip_bytes: memory for the channels of a strip, and its outputs.
        like: has the dtype and the device of the computation.
        c_out: channels of the output.
    """

    network: Network
    space: tuple[int, ...]
    strip_bytes: int
    like: Tensor
    c_out: int = 1

    def passes(self, first: int = 0, last_start: int | None = None) -> list[Pass]:
        """Cut the layers from ``first`` on into passes, at the least cost.

        The cost of a pass is the arithmetic of its layers and the bytes of the channels that it
        reads, both for the halo, too, and of those it writes. The cheapest cut is found backwards
        from the last layer.

        Args:
            first: the first layer.
            last_start: the last pass begins with this layer or one before it.

        Raises:
            ValueError: a layer with one slice does not fit; names the bytes it needs.
        """
        depth = self.network.depth
        best: list[tuple[float, Pass | None]] = [(0.0, None)] * (depth + 1)
        for start in reversed(range(first, depth)):
            choices = []
            for stop in range(start + 1, depth + 1):
                if stop == depth and last_start is not None and start > last_start:
                    continue
                step = self.one(range(start, stop))
                if step is not None and best[stop][0] < np.inf:
                    choices.append((step.cost + best[stop][0], step))
            best[start] = min(choices, key=lambda choice: choice[0], default=(np.inf, None))
        if best[first][1] is None:
            needed = [
                self._slice_bytes(range(layer, layer + 1)) * (1 + 2 * dilation)
                for layer, dilation in enumerate(self.network.dilations)
            ]
            raise ValueError(
                f"the memory limit leaves {max(self.strip_bytes, 0)} bytes for a strip; layer "
                f"{int(np.argmax(needed))} needs at least {max(needed)}"
            )
        passes: list[Pass] = []
        while (step := best[passes[-1].layers.stop if passes else first][1]) is not None:
            passes.append(step)
        return passes

    def one(self, layers: range) -> Pass | None:
        """Some layers as one pass, or None if not even one slice of it fits."""
        network, space = self.network, self.space
        halo = sum(network.dilations[layers.start : layers.stop])
        slices = self.strip_bytes // self._slice_bytes(layers)
        if slices >= space[0]:
            strip, computed = space[0], 1.0
        elif slices > 2 * halo:
            strip = slices - 2 * halo
            computed = slices / strip
        else:
            return None
        num_taps = 3 ** len(space)
        flops = sum(2 * num_taps * network.width * network.channels_before(i) for i in layers)
        read = network.channels_before(layers.start) * self.like.element_size()
        is_last = layers.stop == network.depth
        written = 0 if is_last else len(layers) * network.width * self.like.element_size()
        per_byte = FLOPS_PER_BYTE_CPU if self.like.device.type == "cpu" else FLOPS_PER_BYTE_DEVICE
        cost = computed * (flops + per_byte * read) + per_byte * written
        return Pass(layers, halo, strip, cost)

    def _slice_bytes(self, layers: range) -> int:
        """Memory for a slice of a pass."""
        engine = auto_engine(part_of(self.network, layers), self.space, "zeros", self.like)
        channels: int = engine.slice_bytes
        outputs = 2 * self.c_out if layers.stop == self.network.depth else 0
        return channels + outputs * math.prod(self.space[1:]) * self.like.element_size()


def part_of(network: Network, layers: range) -> Network:
    """Some layers, with all channels in front of them as input."""
    dilations = network.dilations[layers.start : layers.stop]
    return Network(network.channels_before(layers.start), network.width, dilations)
