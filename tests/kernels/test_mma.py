"""Products on tensor cores (kernels/mma.cuh): which lane holds which element of a matrix.

The layouts are those of the PTX ISA ("Matrix fragments for mma.m16n8k8", "... m16n8k16"), written
down here once more and independently of what the kernels and the shim make of them.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from msdtool import resources
from msdtool.ops.cuda import sources
from msdtool.ops.cuda.launcher import launch
from msdtool.ops.cuda.sources import Source

KERNEL = """
#include "common.cuh"
#include "mma.cuh"

extern "C" __global__ void product(const unsigned* a, const unsigned* b, float* c) {
    const int lane = threadIdx.x;
    float sums[4];
    unsigned left[4], right[2];
    for (int i = 0; i < 4; ++i) sums[i] = c[4 * lane + i];
    for (int i = 0; i < 4; ++i) left[i] = a[4 * lane + i];
    for (int i = 0; i < 2; ++i) right[i] = b[2 * lane + i];
    MULTIPLY(sums, left, right);
    for (int i = 0; i < 4; ++i) c[4 * lane + i] = sums[i];
}
"""
MULTIPLY = {
    torch.float32: "mma_tf32",
    torch.float16: "mma_float16",
    torch.bfloat16: "mma_bfloat16",
}
ROWS, COLUMNS, LANES = 16, 8, 32

Place = tuple[int, int]


def place_in_a(dtype: torch.dtype, group: int, member: int, i: int) -> Place:
    """Row and column of a lane's element i of A; group and member are lane // 4 and lane % 4."""
    if dtype == torch.float32:
        return group + (0 if i in (0, 2) else 8), member + (0 if i in (0, 1) else 4)
    row = group if 0 <= i < 2 or 4 <= i < 6 else group + 8
    return row, member * 2 + (i & 1) + (0 if i < 4 else 8)


def place_in_b(dtype: torch.dtype, group: int, member: int, i: int) -> Place:
    if dtype == torch.float32:
        return member + (0 if i == 0 else 4), group
    return member * 2 + (i & 1) + (0 if i < 2 else 8), group


def place_in_c(dtype: torch.dtype, group: int, member: int, i: int) -> Place:
    return group + (0 if i < 2 else 8), member * 2 + (i & 1)


Layout = Callable[[torch.dtype, int, int, int], Place]


def places(layout: Layout, dtype: torch.dtype, per_lane: int) -> tuple[list[int], list[int]]:
    """Rows and columns of the elements of lane 0, of lane 1 ..."""
    found = [layout(dtype, *divmod(lane, 4), i) for lane in range(LANES) for i in range(per_lane)]
    assert len(set(found)) == len(found)
    rows, columns = zip(*found, strict=True)
    return list(rows), list(columns)


def registers(matrix: Tensor, layout: Layout) -> Tensor:
    """The matrix as the lanes hold it, [32, registers]; two elements of 16 bits in each."""
    per_lane = matrix.numel() // LANES
    elements = matrix[places(layout, matrix.dtype, per_lane)].view(LANES, per_lane)
    return elements.contiguous().view(torch.int32)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("dtype", list(MULTIPLY))
def test_lanes_hold_what_the_instruction_set_says(
    shim: object,
    dtype: torch.dtype,
    device: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    headers = resources.resource_folder("kernels")
    for name in ("common.cuh", "mma.cuh"):
        (tmp_path / name).write_text((headers / name).read_text())
    (tmp_path / "tested.cu").write_text(KERNEL)
    monkeypatch.setattr(sources, "resource_folder", lambda name: tmp_path)
    generator = torch.Generator().manual_seed(0)

    def whole_numbers(rows: int, columns: int) -> Tensor:
        """As exact in every type as their products."""
        return torch.randint(-8, 9, (rows, columns), generator=generator).float()

    depth = 8 if dtype == torch.float32 else 16
    a, b, c = (
        whole_numbers(ROWS, depth),
        whole_numbers(depth, COLUMNS),
        whole_numbers(ROWS, COLUMNS),
    )
    at = places(place_in_c, dtype, 4)
    sums = c[at].to(device)
    launch(
        Source("tested", (("MULTIPLY", MULTIPLY[dtype]),)),
        "product",
        (1,),
        (LANES,),
        registers(a.to(dtype), place_in_a).to(device),
        registers(b.to(dtype), place_in_b).to(device),
        sums,
    )
    assert torch.equal(sums.cpu(), (a @ b + c)[at])
