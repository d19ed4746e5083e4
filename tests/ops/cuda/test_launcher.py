"""The loader of CUDA kernels, as far as it goes without a GPU."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from msdtool.errors import KernelError
from msdtool.ops.cuda import launcher
from msdtool.ops.cuda.launcher import CupyLauncher, launch
from msdtool.ops.cuda.sources import Source, source_for
from tests.ops.cuda.cupy_alone import CUDA, FakeCupy


def test_arguments_take_eight_bytes_each():
    tensor = torch.empty(3, 4)[1:]
    plain = launcher.plain_arguments([tensor, None, 7, 0.5])
    assert plain == (np.uint64(tensor.data_ptr()), np.uint64(0), np.int64(7), np.float64(0.5))
    assert [value.dtype.itemsize for value in plain] == [8, 8, 8, 8]


def test_constants_are_passed_on_as_they_are():
    sizes = launcher.constants(3, 2**40)
    assert launcher.plain_arguments([5, *sizes]) == (np.int64(5), np.int64(3), np.int64(2**40))
    assert all(one is two for one, two in zip(launcher.plain_arguments(sizes), sizes, strict=True))


class FakeTensor(torch.Tensor):
    """A tensor that says it lies on a GPU."""

    device = CUDA


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch, folder: Path) -> FakeCupy:
    fake = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "device", lambda index: fake.cuda.Device(("torch", index)))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda index: SimpleNamespace(cuda_stream=99))
    monkeypatch.setitem(launcher.LAUNCHERS, "cuda", CupyLauncher())
    return fake


def on_gpu() -> torch.Tensor:
    return torch.ones(4).as_subclass(FakeTensor)


ONE = Source("one", (("SIZE", 1),))


def test_a_launch_goes_to_torchs_device_and_stream(cupy):
    tensor = on_gpu()
    for _ in range(2):
        launch(ONE, "twice", (3,), (64,), tensor, 5)
    assert cupy.compiled == ["twice"]
    places = [("torch", 0), 0, (0, 99)]
    assert cupy.launched == [(*places, (3,), (64,), (tensor.data_ptr(), 5), 0)] * 2


def test_much_shared_memory_is_asked_for(cupy):
    launch(ONE, "twice", (1,), (64,), on_gpu(), shared_bytes=40_000)
    (function,) = launcher.LAUNCHERS["cuda"]._functions.values()
    assert function.max_dynamic_shared_size_bytes == 0
    launch(ONE, "twice", (1,), (64,), on_gpu(), shared_bytes=100_000)
    launch(ONE, "twice", (1,), (64,), on_gpu(), shared_bytes=60_000)
    assert function.max_dynamic_shared_size_bytes == 100_000


def test_the_shared_memory_of_a_device_is_asked_for_once(cupy):
    assert [launcher.max_shared_bytes(CUDA) for _ in range(2)] == [232448] * 2


def test_an_empty_grid_launches_nothing(cupy):
    launch(ONE, "twice", (2, 0), (64,), on_gpu())
    assert cupy.compiled == []


def test_a_compile_error_carries_the_log_and_the_defines(cupy):
    cupy.fails_to_compile = True
    with pytest.raises(KernelError) as error:
        launch(source_for("one", torch.float16, SIZE=3), "twice", (1,), (64,), on_gpu())
    assert error.value.message == (
        "the CUDA compiler refused one.cu STORAGE=float16 SIZE=3. Please report this with the "
        "output of `msdtool doctor`; impl='torch' computes the same without this kernel. "
        "Its log:\nb.cuh(1): error: expected an expression"
    )


def test_a_launch_error_says_what_was_launched(cupy):
    cupy.fails_to_launch = True
    with pytest.raises(KernelError, match=(
        r"twice of one.cu SIZE=1 could not be launched on cuda:0, grid \(7,\), block \(2048,\), "
        r"12 bytes of shared memory: CUDA_ERROR_INVALID_VALUE"
    )):  # fmt: skip
        launch(ONE, "twice", (7,), (2048,), on_gpu(), shared_bytes=12)


def test_nothing_is_compiled_while_a_graph_is_captured(cupy, monkeypatch):
    launch(ONE, "twice", (1,), (64,), on_gpu())
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    launch(ONE, "twice", (1,), (64,), on_gpu())
    with pytest.raises(KernelError, match="cannot capture; run the same step once before"):
        launch(ONE, "thrice", (1,), (64,), on_gpu())


def test_a_fork_of_a_process_that_used_the_gpu_is_refused(cupy, monkeypatch):
    launch(ONE, "twice", (1,), (64,), on_gpu())
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    with pytest.raises(KernelError, match=r"forked .* start processes with .*'spawn' method"):
        launch(ONE, "twice", (1,), (64,), on_gpu())


def test_no_kernels_on_the_cpu():
    with pytest.raises(KernelError, match="CUDA kernels need tensors on a GPU; these are on cpu"):
        launch(ONE, "twice", (1,), (64,), torch.ones(4))


def fails(error: Exception) -> Any:
    def call(*arguments: object) -> None:
        raise error

    return call


def test_each_obstacle_says_what_to_do(cupy, monkeypatch):
    def found() -> str | None:
        return CupyLauncher().obstacle(CUDA)

    assert found() is None
    with monkeypatch.context() as patch:
        patch.setattr(cupy.cuda.runtime, "free", fails(cupy.CUDARuntimeError("no device")))
        unusable = "CuPy cannot use cuda:0: no device; the CuPy that fits torch: pip install"
        assert str(found()).startswith(unusable)
    with monkeypatch.context() as patch:
        patch.setattr(cupy.cuda.nvrtc, "getVersion", fails(RuntimeError("libnvrtc.so")))
        missing = "NVRTC, CUDA's compiler, is missing (libnvrtc.so): pip install 'msdtool[cuda13]'"
        assert found() == missing
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "cupy", None)
        assert found() == "CuPy is not installed: pip install 'msdtool[cuda13]'"
    with monkeypatch.context() as patch:
        patch.setattr(torch.version, "cuda", None)
        assert found() == "this build of torch has no CUDA"


def test_importing_the_loader_imports_no_cupy():
    import subprocess

    code = "import sys, msdtool.ops.cuda.launcher; sys.exit('cupy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
