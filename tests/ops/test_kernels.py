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
from msdtool.ops import kernels, sources
from msdtool.ops.kernels import CupyLauncher, launch
from msdtool.ops.sources import Source, source_for
from tests.kernels import nvrtc

needs_nvrtc = pytest.mark.skipif(nvrtc.MISSING is not None, reason=str(nvrtc.MISSING))
CUDA = torch.device("cuda", 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of kernels: one.cu includes a.cuh and b.cuh, and a.cuh includes b.cuh."""
    (tmp_path / "one.cu").write_text(
        '// one\n#include "a.cuh"\n#include "b.cuh"\n'
        'extern "C" __global__ void twice(float* x) { x[0] = TWO * x[0]; }\n'
    )
    (tmp_path / "a.cuh").write_text('#include "b.cuh"\n#define TWO (ONE + ONE)\n')
    (tmp_path / "b.cuh").write_text("#define ONE (SIZE)\n")
    monkeypatch.setattr(sources, "resource_folder", lambda name: tmp_path)
    return tmp_path


def test_the_text_is_complete_and_names_its_files(folder):
    assert Source("one", (("SIZE", 1), ("NAME", "float"))).text().splitlines() == [
        "#define SIZE 1",
        "#define NAME float",
        '#line 1 "one.cu"',
        "// one",
        '#line 1 "a.cuh"',
        '#line 1 "b.cuh"',
        "#define ONE (SIZE)",
        '#line 2 "a.cuh"',
        "#define TWO (ONE + ONE)",
        '#line 3 "one.cu"',
        "",
        'extern "C" __global__ void twice(float* x) { x[0] = TWO * x[0]; }',
    ]


def test_a_missing_file_is_named(folder):
    (folder / "b.cuh").unlink()
    with pytest.raises(
        KernelError, match=r"b\.cuh: cannot be read \(No such file.*install msdtool"
    ):
        Source("one").text()


def test_arguments_take_eight_bytes_each():
    tensor = torch.empty(3, 4)[1:]
    plain = kernels.plain_arguments([tensor, None, 7, 0.5])
    assert plain == (np.uint64(tensor.data_ptr()), np.uint64(0), np.int64(7), np.float64(0.5))
    assert [value.dtype.itemsize for value in plain] == [8, 8, 8, 8]


def compile_on_disk(
    source: Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, bytes]:
    """Compile for sm_90 as CuPy does for a GPU, a process anew; how often NVRTC was called."""
    from cupy.cuda import _compiler_cache, compiler, function

    loaded: list[bytes] = []
    calls: list[str] = []
    compile_now = compiler._compile_using_nvrtc_no_warning

    def count(text: str, *arguments: Any, **options: Any) -> Any:
        calls.append(text)
        return compile_now(text, *arguments, **options)

    monkeypatch.setattr(compiler, "_compile_using_nvrtc_no_warning", count)
    monkeypatch.setattr(
        compiler,
        "_kernel_cache_backend",
        _compiler_cache.DiskKernelCacheBackend(str(cache)),
    )
    monkeypatch.setattr(
        compiler, "_get_arch_for_options_for_nvrtc", lambda arch: (f"-arch=sm_{arch}", "cubin")
    )
    module = SimpleNamespace(load=loaded.append, _set_mapping=lambda mapping: None)
    monkeypatch.setattr(function, "Module", lambda: module)
    compiler._compile_module_with_cache(source.text(), kernels.OPTIONS, arch="90")
    monkeypatch.undo()
    return sum(source.text() in text for text in calls), loaded[0]


@needs_nvrtc
def test_a_warm_start_compiles_nothing_and_an_edited_header_is_seen(folder, tmp_path):
    source = Source("one", (("SIZE", 1),))
    cache = tmp_path / "cache"

    def compile_again() -> tuple[int, bytes]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sources, "resource_folder", lambda name: folder)
            return compile_on_disk(source, cache, patch)

    first_calls, first = compile_again()
    assert first_calls == 1
    assert compile_again() == (0, first)
    (folder / "b.cuh").write_text("#define ONE (SIZE + 2)\n")
    edited_calls, edited = compile_again()
    assert edited_calls == 1
    assert edited != first


class FakeCupy:
    """Stands for CuPy and its GPU: counts what is compiled and launched, and where."""

    class CompileException(Exception):  # noqa: N818 - CuPy's name
        def get_message(self) -> str:
            return "b.cuh(1): error: expected an expression\n"

    class CUDADriverError(Exception):
        pass

    class CUDARuntimeError(Exception):
        pass

    def __init__(self) -> None:
        self.compiled: list[str] = []
        self.launched: list[tuple[Any, ...]] = []
        self.current: list[object] = []
        self.fails_to_compile = self.fails_to_launch = False
        fake = self

        class Context:
            def __init__(self, what: object) -> None:
                self.what = what

            def __enter__(self) -> None:
                fake.current.append(self.what)

            def __exit__(self, *_: object) -> None:
                fake.current.pop()

        class Function:
            max_dynamic_shared_size_bytes = 0

            def __call__(self, *arguments: Any, shared_mem: int) -> None:
                if fake.fails_to_launch:
                    raise fake.CUDADriverError("CUDA_ERROR_INVALID_VALUE: invalid argument")
                fake.launched.append((*fake.current, *arguments, shared_mem))

        class Module:
            def __init__(self, code: str, options: tuple[str, ...], backend: str) -> None:
                self.code, self.functions = code, {}

            def get_function(self, name: str) -> Function:
                if fake.fails_to_compile:
                    raise fake.CompileException
                fake.compiled.append(name)
                return self.functions.setdefault(name, Function())

        self.RawModule = Module
        self.function = Function
        errors = {
            "driver": SimpleNamespace(CUDADriverError=self.CUDADriverError),
            "compiler": SimpleNamespace(CompileException=self.CompileException),
        }
        runtime = SimpleNamespace(
            CUDARuntimeError=self.CUDARuntimeError,
            free=lambda pointer: None,
            cudaDevAttrMaxSharedMemoryPerBlockOptin=97,
            deviceGetAttribute=lambda attribute, index: {(97, 0): 232448}[attribute, index],
        )
        stream = SimpleNamespace(from_external=lambda face: Context(face.__cuda_stream__()))
        self.cuda = SimpleNamespace(
            **errors, runtime=runtime, Device=Context, Stream=stream,
            nvrtc=SimpleNamespace(getVersion=lambda: (13, 0)),
        )  # fmt: skip


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
    monkeypatch.setitem(kernels.LAUNCHERS, "cuda", CupyLauncher())
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
    launcher = kernels.LAUNCHERS["cuda"]
    (function,) = launcher._functions.values()
    assert function.max_dynamic_shared_size_bytes == 0
    launch(ONE, "twice", (1,), (64,), on_gpu(), shared_bytes=100_000)
    launch(ONE, "twice", (1,), (64,), on_gpu(), shared_bytes=60_000)
    assert function.max_dynamic_shared_size_bytes == 100_000


def test_the_shared_memory_of_a_device_is_asked_for_once(cupy):
    assert [kernels.max_shared_bytes(CUDA) for _ in range(2)] == [232448] * 2


def test_an_empty_grid_launches_nothing(cupy):
    launch(ONE, "twice", (2, 0), (64,), on_gpu())
    assert cupy.compiled == []


def test_a_compile_error_carries_the_log_and_the_defines(cupy):
    cupy.fails_to_compile = True
    with pytest.raises(KernelError) as error:
        launch(source_for("one", torch.float16, SIZE=3), "twice", (1,), (64,), on_gpu())
    assert error.value.message == (
        "the CUDA compiler refused one.cu STORAGE=float16 SIZE=3. Please report this with the "
        "output of `msdtool doctor`; impl='blocked' computes the same without this kernel. "
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

    code = "import sys, msdtool.ops.kernels; sys.exit('cupy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
