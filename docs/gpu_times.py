"""Predicts what a network takes on a GPU, from counts: nothing here is measured.

Counts of launches, bytes and threads come from the engine's own blocks, strips and bands, those of
instructions from the machine code that NVRTC makes of the kernels (`tests/kernels/sass.py`). What
turns them into milliseconds are the assumptions below. Expect errors of 40 %.

Run `python docs/gpu_times.py` in the checkout for the table of docs/benchmarks.md.
"""

import itertools
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from msdtool.nn.msd import DILATIONS
from msdtool.ops.cuda import back, front, launcher
from msdtool.ops.cuda.fragments import WIDTH
from msdtool.ops.cuda.front import FrontEngine
from msdtool.ops.cuda.inner import ROWS as INNER_ROWS
from msdtool.ops.cuda.inner import inner_source
from msdtool.ops.cuda.product import ProductEngine
from msdtool.ops.cuda.sources import source_for
from msdtool.ops.engine import BlockShape
from tests.kernels import sass
from tests.shim import ShimLauncher

# Instructions of a warp: 132 multiprocessors of four schedulers at 1.7 GHz, H100 and H200 alike.
ISSUE = 132 * 4 * 1.7e9
SHARED = 132 * 1.7e9  # accesses of a warp to shared memory or the first-level cache
DRAM = {"H100": 3.0e12, "H200": 4.3e12}
L2 = 5.0e12
BUSY = 0.65  # share of the schedulers' time that kernels waiting for memory reach
NODE = 1.3e-6  # from one kernel of a CUDA graph to the next
# Flops: tensor cores by mma.sync, matrix products by cuBLAS.
TENSOR = {"float32": 300e12, "TF32": 300e12, "bfloat16": 600e12}
PRODUCT = {"float32": 67e12 * 0.5, "TF32": 300e12 * 0.45, "bfloat16": 300e12 * 0.45}
# Instructions for a pixel that stand in no loop: rows and columns, sums and stores.
INNER_FORWARD_ONCE, INNER_BACKWARD_ONCE = 55, 100
SPREAD = 250  # for a pixel and output
FRONT_ONCE = 230  # of a warp for two rows: taps to shared memory, rows, barriers
BACK_INPUT_ONCE, BACK_WEIGHT_ONCE = 150, 60  # of a warp for a row: its taps as operands, barriers
# Launches by torch, forward and backward (tests/ops/cuda/test_product.py); without products.
TORCH, TORCH_PRODUCTS = (10, 13), (12, 48)
ARCHITECTURE = 90
CASES = ((256, 2, 100), (512, 2, 100), (1024, 2, 100), (2048, 2, 100), (128, 3, 50))


@dataclass(frozen=True)
class Times:
    """Launches of a forward pass and a step, and predicted seconds of both."""

    launches: tuple[int, int]
    forward: float
    step: float


class Gpu(ShimLauncher):
    """Has an H100's shared memory, and launches nothing."""


def of_loops(source: object, kernel: str, operation: str, count: int) -> int:
    """The fewest instructions of a turn of a loop that has so many of an operation."""
    code = sass.disassemble(source, ARCHITECTURE)[kernel]
    turns = [code.fewest(loop, operation) for loop in code.loops()]
    return min(length for found, length in turns if found == count)


def of_spread(source: object) -> int:
    """Instructions of a thread that writes the nine taps of a pixel and output, in the interior."""
    code = sass.disassemble(source, ARCHITECTURE)["back_input"]
    (loop,) = sass.spreading(code)
    return code.shortest(loop, "LDG", 9)


def front_seconds(engine: FrontEngine, precision: str, gpu: str) -> float:
    """All blocks: the slowest of tensor cores, instructions, shared memory and memory."""
    shape, source = engine.shape, engine.source
    assert engine.columns is not None
    turn = of_loops(source, "front_forward", "HMMA", 36 * engine.terms)
    add = sum(of_loops(source, "front_forward", "FADD", count) for count in (10, 8))
    step, (*volume, height, width) = 32 // engine.element_size, shape.space
    columns = front.even_columns(width, engine.columns)
    starts = range(0, width, columns)
    # Of 32 columns, for each of which two warps multiply, or add up.
    computed = sum(min(4, -(-(width + 2 * engine.layout.halo - at) // 32)) for at in starts)
    adding = sum(-(-min(columns, width - at) // 32) for at in starts)
    band = front.band_rows(height, len(starts) * shape.batch * math.prod(volume))
    bands, seconds = -(-height // band), 0.0
    for block, tap in itertools.product(engine.blocks(), (0, -1, 1) if volume else (0,)):
        reach, m = (
            max(shape.dilations[layer] for layer in block),
            shape.channels_before(block.start),
        )
        runs = shape.batch * (math.prod(volume) + reach * abs(tap)) * bands
        # Rows outside the band take a third of the product, and run one of two loops that add.
        rows = runs * (band + 2 * reach * 3 / 9)
        inside, outside = runs * band, runs * 2 * reach  # of two warps, for two rows
        products = rows * computed * -(-m // step)  # of a warp: 32 pixels by a step of channels
        tensor = products * 36 * engine.terms / 2 * 2048 * (step // 8) / TENSOR[precision]
        issued = products * turn / 2
        issued += (inside + outside) * computed * FRONT_ONCE
        issued += (inside + outside / 2) * add * adding * len(block) / 2
        accesses = products * (8 + 20 * (2 if engine.terms == 3 else 1))
        accesses += (inside + outside) * computed * 36 * 2 + inside * adding * 24 * len(block) / 2
        read = m * engine.element_size + len(block) * 4 * (1 + abs(tap))  # sums are float32
        read *= engine.layout.plane
        full = min(1.0, runs * len(starts) / 264)  # of the multiprocessors
        parts = issued / ISSUE / BUSY / full, accesses / SHARED / full, tensor / full
        again = read * (band + 2 * reach) / band / L2  # by several bands and strips
        seconds += max(*parts, read / DRAM[gpu], again)
    return seconds


def back_seconds(engine: FrontEngine, gpu: str) -> float:
    """Both kernels of all blocks, and the last one for all weights: the slowest of tensor cores,
    instructions, shared memory and memory."""
    shape, source, terms = engine.shape, back.back_source(engine.dtype, engine.terms), engine.terms
    strips, height = -(-shape.space[-1] // WIDTH), math.prod(shape.space[:-1]) * shape.batch
    units, plane, planes = strips * height, engine.layout.plane, shape.num_taps // 9
    full = min(1.0, min(units, back.BLOCKS_WANTED) / 264)  # of the multiprocessors
    spread = of_spread(source)
    by_input = of_loops(source, "back_input", "HMMA", 18 * terms)
    by_weight = of_loops(source, "back_weight", "HMMA", 36 * terms)
    seconds = 0.0
    for block in engine.blocks():
        k, m = len(block) * shape.width, shape.channels_before(block.start) - shape.c_in
        rows = 8 * units * planes  # of a warp
        deltas = 2 * k * plane * 4 / L2  # beside the row itself, those a dilation above and below
        if m > 0:
            groups = -(-m // 16)
            issued = rows * (4 * spread + BACK_INPUT_ONCE + groups * by_input)
            accesses = rows * (4 * 18 + 72 + groups * (36 * terms + 32))
            tensor = rows * groups * 18 * terms * 2048 / TENSOR["TF32"]
            moved = (2 * m + k) * plane * 4 / DRAM[gpu]
            moved += (planes - 1) * 2 * m * plane * 4 / L2  # planes of taps follow each other
            seconds += slowest(issued, accesses, tensor, full, moved + deltas * planes)
        channels = shape.channels_before(block[-1])
        teams = min(8, -(-channels // 32))
        turns = units * planes * 8 / (8 // teams) * teams  # of a warp: 32 channels, 16 pixels
        issued = rows * (4 * spread + BACK_WEIGHT_ONCE) + turns * by_weight
        accesses = rows * 4 * 18 + turns * (9 * 4 + 4 * 8)
        tensor = turns * 36 * terms * 2048 / TENSOR["TF32"]
        moved = planes * (channels * engine.element_size + k * 4) * plane / DRAM[gpu]
        seconds += slowest(issued, accesses, tensor, full, moved + deltas * planes)
    work = back.back_of(
        engine.layout, tuple(engine.blocks()), engine.dtype, engine.terms, torch.device("cpu")
    )
    return seconds + 2 * work.num_parts * len(work.gradients.places) * 4 / L2


def slowest(
    issued: float, accesses: float, tensor: float, full: float, memory_seconds: float
) -> float:
    """Seconds that a kernel takes which fills so much of the GPU."""
    return max(
        issued / ISSUE / BUSY / full, accesses / SHARED / full, tensor / full, memory_seconds
    )


def product_seconds(engine: ProductEngine, precision: str, gpu: str, passes: int) -> float:
    """Products of the channels in front of all blocks; they read or write so many planes."""
    shape, plane = engine.shape, engine.layout.plane
    pairs = sum(
        shape.channels_before(block.start) * len(block) * shape.width for block in engine.blocks()
    )
    planes = sum(shape.channels_before(block.start) for block in engine.blocks())
    stack = shape.depth * shape.width * shape.num_taps * plane * engine.real.itemsize
    moved = passes * planes * plane * engine.element_size / DRAM[gpu] + stack / L2
    return max(2 * shape.num_taps * pairs * plane / PRODUCT[precision], moved)


def seconds_of(instructions: float, pixels: int) -> float:
    """Of a kernel that takes so many instructions for a pixel."""
    return instructions * pixels / 32 / ISSUE / BUSY


def times(engine: ProductEngine, precision: str, gpu: str) -> Times:
    """Those of one image."""
    shape, blocks = engine.shape, engine.blocks()
    ndim, pixels, depth = len(shape.space), shape.pixels, shape.depth
    inside = sum(len(block) * (len(block) - 1) // 2 for block in blocks)
    inner = inner_source(engine.dtype, ndim)
    per_channel = of_loops(inner, "inner_forward", "FFMA", 9 * INNER_ROWS) / INNER_ROWS
    back_channel = of_loops(inner, "inner_backward", "FFMA", 9 * INNER_ROWS) / INNER_ROWS
    rows = 3 ** (ndim - 2)  # turns of the loop for a channel
    forward = seconds_of(rows * per_channel * inside + INNER_FORWARD_ONCE * depth, pixels)
    backward = seconds_of(rows * back_channel * inside + INNER_BACKWARD_ONCE * depth, pixels)
    plane_bytes = shape.num_channels * engine.layout.plane * engine.element_size
    grad_bytes = shape.num_channels * engine.layout.plane * engine.real.itemsize
    if isinstance(engine, FrontEngine) and engine.source is not None:
        forward += front_seconds(engine, precision, gpu)
        launches = 1 + rows * len(blocks) + depth + TORCH[0]  # a plane of taps each
        backward += back_seconds(engine, gpu)
        of_backward = 2 + depth + 2 * len(blocks) - 1 + TORCH[1]
    else:
        strips = len(list(engine.strips()))
        taps = source_for("taps", torch.float32, NDIM=ndim)
        code = sass.disassemble(taps, ARCHITECTURE)["taps_gather"]
        gather = max(code.fewest(loop, "FADD") for loop in code.loops())[1]
        forward += product_seconds(engine, precision, gpu, 1) + seconds_of(gather * depth, pixels)
        launches = 2 * len(blocks) * strips + depth + TORCH_PRODUCTS[0]
        backward += seconds_of(SPREAD * rows * depth, pixels)
        backward += product_seconds(engine, precision, gpu, 2)
        backward += product_seconds(engine, precision, gpu, 1)
        of_backward = depth + 3 * len(blocks) * strips + TORCH_PRODUCTS[1]
    forward += plane_bytes / DRAM[gpu] + launches * NODE
    backward += (plane_bytes + 2 * grad_bytes) / DRAM[gpu] + of_backward * NODE
    return Times((launches, launches + of_backward), forward, forward + backward)


def engines(size: int, ndim: int, depth: int) -> Iterator[tuple[str, str, ProductEngine]]:
    """The ways to compute a network: name, precision, engine."""
    dilations = tuple(DILATIONS[layer % len(DILATIONS)] for layer in range(depth))
    shape = BlockShape(1, 1, dilations, "symmetric", 1, (size,) * ndim)
    for precision, dtype in (
        ("float32", torch.float32), ("TF32", torch.float32), ("bfloat16", torch.bfloat16),
    ):  # fmt: skip
        torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
        like = torch.empty(0, dtype=dtype)
        if precision != "bfloat16":
            yield "products", precision, ProductEngine(shape, like)
        yield "tensor cores", precision, FrontEngine(shape, like)


def table() -> str:
    """Markdown, one row for each case and way."""
    before = torch.get_float32_matmul_precision()
    launcher.LAUNCHERS["cpu"] = Gpu()
    try:
        return "\n".join(rows())
    finally:
        del launcher.LAUNCHERS["cpu"]
        torch.set_float32_matmul_precision(before)


def rows() -> Iterator[str]:
    """Its lines."""
    yield from (
        "| network | computed by | launches | forward, ms, H100 / H200 | step, ms |",
        "| --- | --- | --- | --- | --- |",
    )
    for size, ndim, depth in CASES:
        for name, precision, engine in engines(size, ndim, depth):
            found = [times(engine, precision, gpu) for gpu in DRAM]
            forward, step = (
                " / ".join(f"{1e3 * getattr(one, what):.1f}" for one in found)
                for what in ("forward", "step")
            )
            launches = "{:,} / {:,}".format(*found[0].launches)
            case = f"{size}^{ndim}, depth {depth}"
            yield f"| {case} | {name}, {precision} | {launches} | {forward} | {step} |"


if __name__ == "__main__":
    print(table())
