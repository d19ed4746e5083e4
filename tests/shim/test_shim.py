"""The shim that runs kernels on the CPU: what it computes, and what it refuses."""

import os
from pathlib import Path

import pytest
import torch

from msdtool import resources
from msdtool.ops.cuda import sources
from msdtool.ops.cuda.launcher import launch
from msdtool.ops.cuda.sources import Source, source_for
from tests import shim as kernel_shim
from tests.shim import ShimError, ShimLauncher, sanitized

KERNELS = """
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(64) reverse(const storage* input, storage* output) {
    __shared__ real left[64];
    DYNAMIC_SHARED(real, right);
    left[threadIdx.x] = load(input + 64 * blockIdx.x + threadIdx.x);
    right[threadIdx.x] = load(input + 64 * blockIdx.x + threadIdx.x);
    __syncthreads();
    const int other = 63 - threadIdx.x;
    store(output + 64 * blockIdx.x + threadIdx.x, other < 32 ? left[other] : right[other]);
}

extern "C" __global__ void forgotten_barrier(const float* input, float* output) {
    __shared__ float tile[64];
    tile[threadIdx.x] = input[threadIdx.x];
    output[threadIdx.x] = tile[63 - threadIdx.x];
}

extern "C" __global__ void warp_sums(const storage* input, storage* output) {
    const real sum = warp_sum(load(input + threadIdx.x));
    if (threadIdx.x % 32 == 0) store(output + threadIdx.x / 32, sum);
}

extern "C" __global__ void votes(const int64* input, int64* output) {
    const bool yes = input[threadIdx.x] != 0;
    const unsigned ballot = __ballot_sync(ALL_LANES, yes);
    const bool all = __all_sync(ALL_LANES, yes), any = __any_sync(ALL_LANES, yes);
    output[threadIdx.x] = int64(ballot) * 4 + 2 * all + any;
}

extern "C" __global__ void halves(const float* input, float* output) {
    const unsigned half = threadIdx.x % 32 < 16 ? 0x0000ffffu : 0xffff0000u;
    float value = input[threadIdx.x];
    if (threadIdx.x % 32 >= 16) value = __shfl_xor_sync(half, value, 1);
    output[threadIdx.x] = __shfl_xor_sync(half, value, 8);
}

extern "C" __global__ void some_leave(float* output) {
    if (threadIdx.x > 2) return;
    __syncthreads();
    output[threadIdx.x] = 1;
}

extern "C" __global__ void two_barriers(float* output) {
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
    output[threadIdx.x] = 1;
}

extern "C" __global__ void outside(float* output, int64 index) {
    DYNAMIC_SHARED(float, tile);
    tile[index] = 1;
    output[0] = tile[index];
}

extern "C" __global__ void beyond(float* output, int64 index) { output[index] = 1; }
"""
PLAIN = source_for("tested", torch.float32)


@pytest.fixture(autouse=True)
def tested(shim: ShimLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "kernels"
    folder.mkdir()
    common = resources.resource_folder("kernels") / "common.cuh"
    (folder / "common.cuh").write_text(common.read_text())
    (folder / "tested.cu").write_text(KERNELS)
    monkeypatch.setattr(sources, "resource_folder", lambda name: folder)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", list(sources.STORAGES))
def test_threads_meet_at_barriers_in_any_order(shim, dtype: torch.dtype, order: int) -> None:
    shim.order = order
    values = torch.randn(3, 64).to(dtype)
    output = torch.empty_like(values)
    source = source_for("tested", dtype)
    launch(source, "reverse", (3,), (64,), values, output, shared_bytes=64 * 8)
    assert torch.equal(output, values.flip(1))


def test_a_forgotten_barrier_shows_in_another_order(shim) -> None:
    values, outputs = torch.randn(64), torch.empty(2, 64)
    for order, output in enumerate(outputs):
        shim.order = order
        launch(PLAIN, "forgotten_barrier", (1,), (64,), values, output)
    assert not torch.equal(outputs[0], outputs[1])


@pytest.mark.parametrize("order", [0, 5])
def test_warps_sum_and_vote(shim, order: int) -> None:
    shim.order = order
    values = torch.arange(64.0)
    sums = torch.empty(2)
    launch(PLAIN, "warp_sums", (1,), (64,), values, sums)
    assert sums.tolist() == [496, 1520]
    flags = torch.zeros(96, dtype=torch.int64)
    flags[:32], flags[37] = 1, 1
    found = torch.empty_like(flags)
    launch(PLAIN, "votes", (1,), (96,), flags, found)
    expected = [(2**32 - 1) * 4 + 3] * 32 + [(1 << 5) * 4 + 1] * 32 + [0] * 32
    assert found.tolist() == expected
    mixed = torch.empty(64)
    launch(PLAIN, "halves", (1,), (64,), values, mixed)
    assert mixed[:16].tolist() == [i ^ 8 for i in range(16)]
    assert mixed[16:32].tolist() == [i ^ 9 for i in range(16, 32)]


def test_sixteen_bit_values_round_as_torch_rounds_them() -> None:
    values = torch.randint(-(2**31), 2**31 - 1, (64 * 512,), dtype=torch.int32)
    reals = values.view(torch.float32)
    reals[:4] = torch.tensor([torch.inf, -torch.inf, torch.nan, 0.0])
    for dtype in (torch.bfloat16, torch.float16):
        source = source_for("tested", dtype)
        rounded = reals.to(dtype)
        output = torch.empty_like(rounded)
        launch(source, "reverse", (512,), (64,), rounded, output, shared_bytes=256)
        expected = rounded.view(512, 64).flip(1).flatten()
        assert torch.equal(output.isnan(), expected.isnan())
        assert torch.equal(output.nan_to_num(), expected.nan_to_num())


@pytest.mark.parametrize(("function", "threads", "message"), [
    ("some_leave", 64, r"thread \(0, 0, 0\) waits at a barrier .*; 61 threads have ended"),
    ("two_barriers", 64, "threads of a block wait at different barriers"),
])  # fmt: skip
def test_barriers_that_not_all_reach_are_an_error(function, threads, message) -> None:
    with pytest.raises(ShimError, match=message):
        launch(PLAIN, function, (1,), (threads,), torch.empty(threads))


def test_arguments_must_fit_the_parameters() -> None:
    output = torch.empty(4)
    with pytest.raises(ShimError, match="got 1 arguments; the kernel has 2 parameters"):
        launch(PLAIN, "beyond", (1,), (1,), output)
    with pytest.raises(ShimError, match="argument 1 has another type"):
        launch(PLAIN, "beyond", (1,), (1,), output, 1.0)
    with pytest.raises(ShimError, match="argument 0 has another type"):
        launch(PLAIN, "beyond", (1,), (1,), output.double(), 1)


under_sanitizers = kernel_shim.SANITIZE in os.environ


@pytest.mark.skipif(not under_sanitizers, reason="wrong on purpose; run by the next test")
def test_what_the_sanitizers_find() -> None:
    launch(PLAIN, "outside", (1,), (1,), torch.empty(4), 16, shared_bytes=16 * 4)
    launch(PLAIN, "beyond", (1,), (1,), torch.empty(64), 64)


@pytest.mark.skipif(under_sanitizers, reason="starts a process under sanitizers itself")
def test_sanitizers_see_access_outside_of_memory() -> None:
    output, findings = sanitized(f"{__file__}::test_what_the_sanitizers_find")
    kinds = [finding.split()[1] for finding in findings if finding.startswith("AddressSanitizer")]
    assert kinds.count("heap-buffer-overflow") >= 3, output


def test_a_source_names_its_file_and_defines() -> None:
    assert str(Source("conv", (("A", 1), ("B", "x")))) == "conv.cu A=1 B=x"
