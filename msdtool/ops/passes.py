"""How the layers of a network are cut into passes over channels that lie outside of memory.

More layers in a pass mean fewer passes over the channels, but a wider halo to compute twice, and
more channels in a strip, which is so much narrower: `plan_passes` weighs them.

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


def plan_passes(
    network: Network,
    space: tuple[int, ...],
    strip_bytes: int,
    like: Tensor,
    c_out: int = 1,
) -> list[Pass]:
    """Cut the layers into passes whose strips fit ``strip_bytes``, at the least cost.

    The cost of a pass is the arithmetic of its layers and the bytes of the channels that it reads,
    both for the halo, too, and of those it writes. The cheapest cut is found backwards from the
    last layer.

    Args:
        network, space: the layers and the image's size.
        strip_bytes: memory for the channels of a strip, and its outputs.
        like: has the dtype and the device of the computation.
        c_out: channels of the output.

    Raises:
        ValueError: a layer with one slice does not fit; names the bytes it needs.
    """
    best: list[tuple[float, Pass | None]] = [(0.0, None)] * (network.depth + 1)
    for first in reversed(range(network.depth)):
        choices = []
        for stop in range(first + 1, network.depth + 1):
            step = _plan_pass(network, range(first, stop), space, strip_bytes, like, c_out)
            if step is not None and best[stop][0] < np.inf:
                choices.append((step.cost + best[stop][0], step))
        best[first] = min(choices, key=lambda choice: choice[0], default=(np.inf, None))
    if best[0][1] is None:
        needed = [
            _slice_bytes(network, range(layer, layer + 1), space, like, c_out) * (1 + 2 * dilation)
            for layer, dilation in enumerate(network.dilations)
        ]
        raise ValueError(
            f"the memory limit leaves {max(strip_bytes, 0)} bytes for a strip; layer "
            f"{int(np.argmax(needed))} needs at least {max(needed)}"
        )
    passes: list[Pass] = []
    while (step := best[passes[-1].layers.stop if passes else 0][1]) is not None:
        passes.append(step)
    return passes


def _plan_pass(
    network: Network,
    layers: range,
    space: tuple[int, ...],
    strip_bytes: int,
    like: Tensor,
    c_out: int,
) -> Pass | None:
    """One pass, or None if not even one slice of it fits."""
    halo = sum(network.dilations[layers.start : layers.stop])
    slices = strip_bytes // _slice_bytes(network, layers, space, like, c_out)
    if slices >= space[0]:
        strip, computed = space[0], 1.0
    elif slices > 2 * halo:
        strip = slices - 2 * halo
        computed = slices / strip
    else:
        return None
    num_taps = 3 ** len(space)
    flops = sum(2 * num_taps * network.width * network.channels_before(i) for i in layers)
    read = network.channels_before(layers.start) * like.element_size()
    is_last = layers.stop == network.depth
    written = 0 if is_last else len(layers) * network.width * like.element_size()
    per_byte = FLOPS_PER_BYTE_CPU if like.device.type == "cpu" else FLOPS_PER_BYTE_DEVICE
    cost = computed * (flops + per_byte * read) + per_byte * written
    return Pass(layers, halo, strip, cost)


def _slice_bytes(
    network: Network, layers: range, space: tuple[int, ...], like: Tensor, c_out: int
) -> int:
    """Memory for a slice of a pass."""
    channels: int = auto_engine(part_of(network, layers), space, "zeros", like).slice_bytes
    outputs = 2 * c_out if layers.stop == network.depth else 0
    return channels + outputs * math.prod(space[1:]) * like.element_size()


def part_of(network: Network, layers: range) -> Network:
    """Some layers, with all channels in front of them as input."""
    dilations = network.dilations[layers.start : layers.stop]
    return Network(network.channels_before(layers.start), network.width, dilations)
