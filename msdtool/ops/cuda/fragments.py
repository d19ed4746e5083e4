"""The order of weights, and of their gradients, in the kernels for tensor cores.

These multiply by the taps of up to 8 outputs at once, those of a block of layers; a tap of an
output is a row here, [row of taps][output][column of taps]. Lanes load weights 16 bytes at a time,
in the order of kernels/mma.cuh, so they are packed once for all layers (kernels/pack.cu). In 3D
that is one plane of taps of three, by their place along the first axis.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from msdtool.ops.cuda.launcher import launch
from msdtool.ops.cuda.sources import STORAGES, Source, source_for
from msdtool.ops.engine import channels_before

# As in kernels/tiles.cuh; tests/kernels/test_constants.py compares them.
OUTPUTS, WIDTH, THREADS = 8, 128, 256
TAPS = 9 * OUTPUTS
TILE_PAIRS = 5  # two tiles of 8 taps each; the last tile is not used


def pack_source(dtype: torch.dtype, packed: torch.dtype, terms: int) -> Source:
    """The source of the kernel that packs weights of one type as another."""
    return source_for("pack", dtype, PACKED=STORAGES[packed], TERMS=terms)


SOURCES = (
    *(pack_source(torch.float32, torch.float32, terms) for terms in (1, 3)),
    *(
        pack_source(dtype, packed, 1)
        for dtype in (torch.float16, torch.bfloat16)
        for packed in (dtype, torch.float32)
    ),
)


class Layers(NamedTuple):
    """The layers whose weights are ordered.

    Attributes:
        c_in, width: of the network.
        blocks: its blocks of layers.
        num_planes: planes of nine taps, 1 in 2D, 3 in 3D.
    """

    c_in: int
    width: int
    blocks: tuple[range, ...]
    num_planes: int

    def channels_before(self, layer: int) -> int:
        """Number of channels that a layer reads."""
        return channels_before(self.c_in, self.width, layer)

    @property
    def parts(self) -> list[tuple[range, int]]:
        """Blocks and planes of taps, in the order in which they lie."""
        return [(block, plane) for block in self.blocks for plane in range(self.num_planes)]


class Places(NamedTuple):
    """Places among the weights of all layers, one layer after another.

    Attributes:
        places: for each packed element the weight it stands for, -1 for none; int32.
        starts: where each block of layers begins, and in it each plane of taps.
        part_size: elements of a step, or of one of its parts.
    """

    places: Tensor
    starts: dict[tuple[range, int], int]
    part_size: int


def pack(weights: Sequence[Tensor], order: Places, dtype: torch.dtype, terms: int) -> Tensor:
    """The weights of all layers in packed order."""
    flat, count = torch.cat([weight.flatten() for weight in weights]), len(order.places)
    packed = flat.new_empty(count, dtype=dtype)
    launch(
        pack_source(flat.dtype, dtype, terms), "pack", (-(-count // THREADS),), (THREADS,),
        flat, order.places, packed, count, order.part_size,
    )  # fmt: skip
    return packed


@cache
def front_places(layers: Layers, step: int, terms: int, device: torch.device) -> Places:
    """For `front_forward`: channels are the depth of the product, kept for good, as graphs refer to
    it by address.

    Args:
        layers: of the network.
        step: channels that are multiplied at a time.
        terms: of a product.
        device: of the result.

    Returns:
        A plane of taps of a block is [step, part, pair of tiles, 32 lanes, tile of the pair, half
        of the channels, channel].
    """

    def order(places: Tensor) -> Tensor:
        # [pair of tiles, tile, row of a tile, step, half, lane % 4, channel]
        split = places.view(TILE_PAIRS, 2, 8, -1, 2, 4, step // 8)
        return split.permute(3, 0, 2, 5, 1, 4, 6)

    return _packed(layers, (0, step), terms, device, order)


@cache
def input_places(layers: Layers, lowest: int, terms: int, device: torch.device) -> Places:
    """For `back_input`, as `front_places`: taps are the depth of the product.

    Args:
        lowest: channel with which the groups of 16 begin.

    Returns:
        A plane of taps of a block is [group of channels, part, tile, 32 lanes, half of the taps,
        half of the group].
    """

    def order(places: Tensor) -> Tensor:
        # [tile, half of its taps, lane % 4, group, half of the channels, channel]
        split = places[:TAPS].reshape(TAPS // 8, 2, 4, -1, 2, 8)
        return split.permute(3, 0, 5, 2, 1, 4)

    return _packed(layers, (lowest, 16), terms, device, order)


@cache
def gradient_places(layers: Layers, device: torch.device) -> Places:
    """For `back_weight`: which weight each sum is the gradient of.

    Returns:
        A plane of taps of a block is [channels before its last layer, TAPS].
    """
    places: list[Tensor] = []
    starts: dict[tuple[range, int], int] = {}
    for part in layers.parts:
        block, _ = part
        channels = torch.arange(layers.channels_before(block[-1]))[:, None]
        first, count = _rows(layers, part)
        whole = _weights_of(layers, first, channels, channels >= count)
        starts[part] = sum(map(len, places))
        places.append(whole[:, :TAPS].flatten())
    return Places(torch.cat(places).to(device, torch.int32), starts, TAPS)


def _packed(
    layers: Layers,
    channels: tuple[int, int],
    terms: int,
    device: torch.device,
    order: Callable[[Tensor], Tensor],
) -> Places:
    """Places of each block, from those by row and channel in an order that begins with the step.

    Args:
        layers: of the network.
        channels: the first one, and how many a step has.
        terms: of a product; each step comes once for each part of a weight.
        device: of the result.
        order: of [16 * TILE_PAIRS, channels].
    """
    lowest, step = channels
    places: list[Tensor] = []
    starts: dict[tuple[range, int], int] = {}
    for part in layers.parts:
        m = layers.channels_before(part[0].start)
        own = torch.arange(lowest, lowest + -(-max(0, m - lowest) // step) * step)
        first = _rows(layers, part)[0][:, None]
        whole = order(_weights_of(layers, first, own, own >= m)).flatten(1)
        part_size = whole.shape[1]
        starts[part] = sum(map(len, places))
        places.append(whole[:, None].expand(-1, parts_of(terms), -1).flatten())
    return Places(torch.cat(places).to(device, torch.int32), starts, part_size)


def _weights_of(layers: Layers, first: Tensor, channels: Tensor, missing: Tensor) -> Tensor:
    """The weight of each row and channel, -1 where there is none."""
    return (first + 9 * layers.num_planes * channels).masked_fill((first < 0) | missing, -1)


def parts_of(terms: int) -> int:
    """Numbers for a weight: itself, or it as a sum of two."""
    return 2 if terms == 3 else 1


def _rows(layers: Layers, part: tuple[range, int]) -> tuple[Tensor, Tensor]:
    """For each row the place of the weight by the first channel, -1 in rows of no tap, and the
    channels that its layer reads; [16 * TILE_PAIRS]."""
    (block, plane), width, taps = part, layers.width, 9 * layers.num_planes
    sizes = [taps * layers.channels_before(layer) for layer in range(block.stop)]
    first, count = (
        torch.full((16 * TILE_PAIRS,), -1),
        torch.zeros(16 * TILE_PAIRS, dtype=torch.int64),
    )
    for output in range(width * len(block)):
        layer = block.start + output // width
        start = width * sum(sizes[:layer]) + output % width * sizes[layer]
        for tap in range(9):
            row = (tap // 3 * OUTPUTS + output) * 3 + tap % 3
            first[row], count[row] = start + 9 * plane + tap, sizes[layer] // taps
    return first, count
