"""How the engine cuts its work: layers per block and slices per tile, from sizes alone."""

from dataclasses import dataclass

from msdtool.ops.halo import Layout

WORKSPACE_BYTES = 64 * 2**20
STACK_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Plan:
    """Layers that share one matrix product, and slices per tile."""

    layers_per_block: int
    block_tile: int
    layer_tile: int


def make_plan(layout: Layout, width: int, depth: int, element_size: int) -> Plan:
    num_taps = 3 ** len(layout.space)
    k = min(depth, 8 if len(layout.space) == 2 else 2)
    slice_bytes = layout.slice_size * num_taps * width * element_size

    def tile(layers: int) -> int:
        return max(1, min(layout.num_slices, STACK_BYTES // (slice_bytes * layers)))

    return Plan(k, tile(k), tile(1))
