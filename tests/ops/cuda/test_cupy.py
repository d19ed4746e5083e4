"""What of CuPy itself shows without a GPU: every name that the loader takes is there and does its
part up to the point where CuPy asks for the driver.
"""

import os
import subprocess
import sys
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from msdtool.errors import KernelError
from msdtool.ops.cuda import launcher, sources
from msdtool.ops.cuda.installation import find_obstacle
from msdtool.ops.cuda.launcher import CupyLauncher
from msdtool.ops.cuda.sources import source_for
from tests.kernels import nvrtc
from tests.ops.cuda.cupy_alone import CUDA, FakeCupy, compile_on_disk

if nvrtc.MISSING:
    pytest.skip(nvrtc.MISSING, allow_module_level=True)

without_driver = pytest.mark.skipif("torch.cuda.is_available()", reason="there is a driver")


@pytest.mark.parametrize(
    "name",
    [
        "RawModule",
        "cuda.Device",
        "cuda.Stream.from_external",
        "cuda.compiler.CompileException",
        "cuda.driver.CUDADriverError",
        "cuda.nvrtc.getVersion",
        "cuda.runtime.CUDARuntimeError",
        "cuda.runtime.cudaDevAttrMaxSharedMemoryPerBlockOptin",
        "cuda.runtime.deviceGetAttribute",
        "cuda.runtime.free",
    ],
)
def test_what_the_stand_in_has_is_in_cupy(name: str) -> None:
    import cupy

    attrgetter(name)(FakeCupy())
    found = attrgetter(name)(cupy)
    assert callable(found) or found == 97  # the number in CUDA's driver_types.h


def test_a_stream_of_torch_is_one_of_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    pointer = 0x5EED
    monkeypatch.setattr(
        torch.cuda, "current_stream", lambda index: SimpleNamespace(cuda_stream=pointer)
    )
    launcher = CupyLauncher()
    stream = launcher._stream(0)
    assert stream.ptr == pointer
    assert launcher._stream(0) is stream
    pointer = 0  # the default stream
    assert launcher._stream(0).ptr == 0


@without_driver
def test_without_a_driver_the_obstacle_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert str(find_obstacle(CUDA)).startswith("CuPy cannot use cuda:0: cudaError")


@without_driver
def test_loading_goes_as_far_as_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is said to CuPy before is understood, or the error would be another."""
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    source = source_for("taps", torch.float32, NDIM=2)
    with pytest.raises(KernelError, match=r"taps_gather of taps\.cu .* be loaded: cudaError"):
        CupyLauncher()._function(0, source, "taps_gather", 0)


@without_driver
def test_the_shared_memory_of_a_kernel_can_be_set() -> None:
    """Else the error would be that of Python, for an attribute that is not there or read-only."""
    import cupy

    kernel = cupy.RawKernel('extern "C" __global__ void nothing() {}', "nothing")
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError):
        kernel.max_dynamic_shared_size_bytes = 100_000
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError):
        kernel((1,), (32,), launcher.plain_arguments([torch.ones(1), None, 7, 0.5]), shared_mem=8)


def test_the_compilers_own_words_reach_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.cu").write_text("one wrong line;\n")
    source = source_for("broken", torch.float16, SIZE=3)

    class Module:
        def get_function(self, name: str) -> Any:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sources, "resource_folder", lambda name: tmp_path)
                return compile_on_disk(source, tmp_path / "cache", patch)

    with pytest.raises(KernelError) as error:
        launcher._loaded(Module(), source, "broken")
    assert "refused broken.cu STORAGE=float16 SIZE=3" in error.value.message
    assert 'broken.cu(1): error: identifier "one" is undefined' in error.value.message


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """CuPy makes it when it is imported."""
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from msdtool.ops.cuda import installation; print(installation.cupy_problem())",
        ],
        env={**os.environ, "CUPY_CACHE_DIR": str(tmp_path / "file" / "cache")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("CuPy cannot use its cache folder (")
    assert "set CUPY_CACHE_DIR to a writable one" in done.stdout
