"""CuPy without a GPU: a stand-in for it, and its own compiler and cache."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from msdtool.ops.cuda import launcher
from msdtool.ops.cuda.sources import Source

CUDA = torch.device("cuda", 0)


def compile_on_disk(
    source: Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, bytes]:
    """Compile for sm_90 as CuPy does for a GPU in a new process; how often NVRTC was called."""
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
    compiler._compile_module_with_cache(source.text(), launcher.OPTIONS, arch="90")
    monkeypatch.undo()
    return sum(source.text() in text for text in calls), loaded[0]


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
