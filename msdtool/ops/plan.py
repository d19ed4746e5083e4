"""How the engine cuts its work: layers per block and slices per tile, from sizes alone.

A block of k layers shares one product of k * width * 3^n rows. More rows read the channels in
front less often and suit BLAS better; but every layer after the first of its block needs a
second, small product and shift-and-add for the channels inside the block. Measured on one
AVX-512 core at 256 x 256: forward is best near 27 rows and flat up to 144; backward, which passes
over the channels three times per block, is best at 144. In 3D one layer has 27 rows and its
shifts outweigh the products, so a second round of them did not pay: k = 1 at 64^3.

A tile is as many slices as keep the stack of taps within `STACK_BYTES`. Smaller tiles would stay
in a core's own cache, but then the calls, some 10 per layer and tile, cost more than they save.
"""

from dataclasses import dataclass

from msdtool.ops.halo import Layout

# All the workspace there is: two stacks (one if k = 1), a channel's gradient on a tile, a strip
# of the final layer. In 3D one slice must fit, which holds up to 500 x 500 pixels of width 1;
# beyond that the workspace grows with the slice. The compiled engine has no such limit.
WORKSPACE_BYTES = 64 * 2**20
STACK_BYTES = 16 * 2**20

FORWARD_CHANNELS_2D = 4
BACKWARD_CHANNELS_2D = 16


@dataclass(frozen=True)
class Plan:
    """Layers per block of the forward and the backward pass, and the bytes of a slice's taps."""

    forward_layers: int
    backward_layers: int
    slice_bytes: int
    num_slices: int

    def tile_slices(self, layers: int) -> int:
        """Slices of a tile whose stack holds the taps of some layers."""
        return max(1, min(self.num_slices, STACK_BYTES // (self.slice_bytes * layers)))


def make_plan(layout: Layout, width: int, depth: int, element_size: int) -> Plan:
    """Choose k for images of this layout; never more than leave a slice within `STACK_BYTES`."""
    slice_bytes = layout.slice_size * int(3 ** len(layout.space)) * width * element_size

    def layers(channels_2d: int) -> int:
        channels = channels_2d if len(layout.space) == 2 else 1
        return max(1, min(channels // width, depth, STACK_BYTES // slice_bytes))

    return Plan(
        layers(FORWARD_CHANNELS_2D),
        layers(BACKWARD_CHANNELS_2D),
        slice_bytes,
        layout.num_slices,
    )
