"""How the layers of a network are cut into passes over channels that lie outside of memory.

More layers in a pass mean fewer passes over the channels, but a wider halo to compute twice and
more channels in a strip, which must then be narrower: `Planner` weighs them.

A slice is one index of the first spatial axis: a row in 2D, a plane of rows in 3D.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from msdtool.errors import DoesNotFit
from msdtool.ops.engine import WORKSPACE_BYTES, BlockShape
from msdtool.ops.engines import new_engine

# What reading or writing a byte of the channels costs in arithmetic. On two AVX-512 cores 120
# GFLOP/s of the engine against 2.7 GB/s from the system's cache of a file; a slow disk costs more.
# On GPUs an estimate: 10 TFLOP/s against 10 GB/s over the bus.
FLOPS_PER_BYTE_CPU = 45
FLOPS_PER_BYTE_DEVICE = 1000


@dataclass(frozen=True)
class Pass:
    """Layers that are computed together, strip by strip.

    Attributes:
        layers: of the network.
        halo: slices on each side of a strip whose values are wrong, as they miss their neighbours.
        strip_slices: slices of a strip without its halo.
        cost: floating-point operations per pixel without the halo.
    """

    layers: range
    halo: int
    strip_slices: int
    cost: float


@dataclass(frozen=True)
class Planner:
    """Cuts the layers of a network into passes.

    Args:
        network: all layers, on the whole image.
        strip_bytes: memory for the channels of a strip and its outputs.
        like: has the dtype and the device of the computation.
        c_out: channels of the output.
    """

    network: BlockShape
    strip_bytes: int
    like: Tensor
    c_out: int = 1

    @property
    def space(self) -> tuple[int, ...]:
        """Spatial shape of the image."""
        return self.network.space

    def passes(self, first: int = 0, last_start: int | None = None) -> list[Pass]:
        """Cut the layers from ``first`` on into passes, at the least cost.

        The cost of a pass is the arithmetic of its layers, the bytes of the channels it reads, both
        including the halo, and the bytes of those it writes. The cheapest cut is found backwards
        from the last layer.

        Args:
            first: the first layer.
            last_start: the last pass begins with this layer or an earlier one.

        Raises:
            DoesNotFit: a layer with one slice does not fit; names the bytes it needs.
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
            raise DoesNotFit(self._too_little())
        passes: list[Pass] = []
        while (step := best[passes[-1].layers.stop if passes else first][1]) is not None:
            passes.append(step)
        return passes

    def one(self, layers: range) -> Pass | None:
        """Some layers as one pass, or None if not even one slice of it fits."""
        network, num_slices = self.network, self.space[0]
        halo = sum(network.dilations[layers.start : layers.stop])
        memory = self._memory(layers)
        slices = min((self.strip_bytes - memory.fixed) // memory.per_slice, memory.max_slices)
        if slices >= num_slices:
            strip, computed = num_slices, 1.0
        elif slices > 2 * halo:
            strip = slices - 2 * halo
            computed = slices / strip
        else:
            return None
        width, element_size = network.width, self.like.element_size()
        flops = sum(2 * network.num_taps * width * network.channels_before(i) for i in layers)
        read = network.channels_before(layers.start) * element_size
        is_last = layers.stop == network.depth
        written = 0 if is_last else len(layers) * width * element_size
        per_byte = FLOPS_PER_BYTE_CPU if self.like.device.type == "cpu" else FLOPS_PER_BYTE_DEVICE
        cost = computed * (flops + per_byte * read) + per_byte * written
        return Pass(layers, halo, strip, cost)

    def _memory(self, layers: range) -> "_Memory":
        engine = new_engine(self.network.part(layers), self.like)
        outputs = 2 * self.c_out if layers.stop == self.network.depth else 0
        return _Memory(
            engine.slice_bytes + outputs * self.network.slice_size * self.like.element_size(),
            max(0, engine.workspace_bytes - WORKSPACE_BYTES),
            engine.max_slices,
        )

    def _too_little(self) -> str:
        needed = []
        for layer, dilation in enumerate(self.network.dilations):
            memory = self._memory(range(layer, layer + 1))
            needed.append(memory.fixed + memory.per_slice * (1 + 2 * dilation))
        return (
            f"the memory limit leaves {max(self.strip_bytes, 0)} bytes for a strip; layer "
            f"{int(np.argmax(needed))} needs at least {max(needed)}"
        )


class _Memory(NamedTuple):
    """What an engine takes for a pass.

    Attributes:
        per_slice: bytes of a strip.
        fixed: bytes of workspace beyond `WORKSPACE_BYTES`, which are set aside anyway.
        max_slices: slices that a strip may have.
    """

    per_slice: int
    fixed: int
    max_slices: int
