"""The border rule: what a convolution reads beyond the edge of an image.

Along each axis of ``size`` pixels, "symmetric" repeats the edge pixel (-1 -> 0, size -> size - 1),
"reflect" does not (-1 -> 1, size -> size - 2), and "zeros" reads zeros. No position may lie further
out than one mirror image, which limits the dilations. The rule itself is applied by
kernels/cpu/border.h and kernels/border.cuh, in plain torch by `msdtool.ops.reference`, and as a
halo around the planes by `msdtool.ops.cpu.layout` and `msdtool.ops.cuda.layout`.
"""

from typing import Literal, get_args

Padding = Literal["symmetric", "reflect", "zeros"]
PADDINGS: tuple[Padding, ...] = get_args(Padding)

RULES: dict[str, int] = {padding: number for number, padding in enumerate(PADDINGS)}
"""The number that stands for each rule in the C++ and CUDA sources; of one that mirrors, its
`edge_width`."""


def edge_width(padding: str) -> int:
    """Pixels at the edge that the mirror image beyond it does not repeat.

    Position x stands for pixel edge_width - 1 - x if x < 0, for 2 * size - 1 - edge_width - x if
    x >= size. For "zeros", which mirrors nothing, it is 0.
    """
    return 1 if padding == "reflect" else 0


def largest_dilation(size: int, padding: str) -> int | None:
    """The largest dilation that an image allows whose smallest side has ``size`` pixels.

    Returns:
        None if any dilation is allowed.
    """
    return None if padding == "zeros" else size - edge_width(padding)
