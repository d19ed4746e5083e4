"""Runs the CUDA sources on the CPU: compiled by g++ with a shim, their threads as fibers.

`ShimLauncher` takes the place of CuPy in `msdtool.ops.cuda.launcher.LAUNCHERS`; `sanitized` runs
tests again with sources compiled under the address and undefined-behaviour sanitizers.
"""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from msdtool.ops.cuda.launcher import Argument
from msdtool.ops.cuda.sources import Source

HEADER = Path(__file__).parent / "shim.h"
COMPILER = os.environ.get("CXX", "g++")
MISSING = None if shutil.which(COMPILER) else f"no C++ compiler {COMPILER} to run CUDA kernels with"
SANITIZE = "MSDTOOL_SANITIZE"  # set by `sanitized` for the process that it starts

WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-unused-function")
FLAGS = ("-x", "c++", "-std=c++17", "-O1", "-fPIC", "-shared", *WARNINGS)
SANITIZERS = (  # without optimisation they compile in half the time
    "-O0", "-g1", "-fsanitize=address,undefined", "-fsanitize-recover=address,undefined",
)  # fmt: skip
_KERNEL = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(")


class _Config(ctypes.Structure):
    _fields_ = [
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_longlong),
        ("order", ctypes.c_int),
    ]


class _Value(ctypes.Union):
    _fields_ = [
        ("pointer", ctypes.c_void_p),
        ("integer", ctypes.c_longlong),
        ("floating", ctypes.c_double),
    ]


class _Argument(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_char), ("size", ctypes.c_int), ("value", _Value)]


class ShimLauncher:
    """Launches kernels on CPU tensors.

    Args:
        order: in which order the threads of a block run: 0 forward, 1 backward, else shuffled.
            Where results depend on it, a barrier is missing.
    """

    def __init__(self, order: int = 0) -> None:
        self.order = order
        self.launched: list[tuple[Source, str]] = []

    def obstacle(self, device: torch.device) -> str | None:
        return None if device.type == "cpu" else f"the shim runs on the CPU, not on {device}"

    def max_shared_bytes(self, device: torch.device) -> int:
        return 227 * 1024  # an H100's

    def launch(
        self,
        source: Source,
        function: str,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        arguments: Sequence[Argument],
        shared_bytes: int,
    ) -> None:
        self.launched.append((source, function))
        three = ctypes.c_uint * 3
        config = _Config(
            three(*grid, *(1,) * (3 - len(grid))),
            three(*block, *(1,) * (3 - len(block))),
            shared_bytes,
            self.order,
        )
        run = getattr(library(source), f"shim_{function}")
        run.restype = ctypes.c_char_p
        passed = (_Argument * len(arguments))(*map(_argument, arguments))
        problem = run(ctypes.byref(config), passed, len(arguments))
        if problem is not None:
            raise ShimError(f"{function} of {source}: {problem.decode()}")


class ShimError(AssertionError):
    """A kernel did what a GPU leaves undefined."""


def _argument(value: Argument) -> _Argument:
    if isinstance(value, Tensor):
        return _Argument(b"p", value.element_size(), _Value(pointer=value.data_ptr()))
    if value is None:
        return _Argument(b"p", 0, _Value(pointer=0))
    if isinstance(value, int | np.int64):
        return _Argument(b"i", 8, _Value(integer=int(value)))
    return _Argument(b"d", 8, _Value(floating=value))


@cache
def library(source: Source) -> ctypes.CDLL:
    """The source as a library of functions ``shim_NAME``, from the cache if it lies there."""
    text = source.text()
    kernels = _KERNEL.findall(text)
    entries = "".join(_ENTRY.format(name=name) for name in kernels)
    whole = f'#include "{HEADER}"\n{text}\n{entries}'
    flags = (*FLAGS, *(SANITIZERS if os.environ.get(SANITIZE) else ()))
    key = hashlib.sha256("\0".join((whole, HEADER.read_text(), *flags)).encode()).hexdigest()
    path = _cache_folder() / f"{source.name}-{key[:24]}.so"
    with FileLock(f"{path}.lock"):  # other processes of pytest-xdist wait instead of compiling
        if not path.exists():
            _compile(source, whole, flags, path)
    return ctypes.CDLL(str(path))


def _compile(source: Source, text: str, flags: Sequence[str], path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder) / "library.so"
        done = subprocess.run(
            [COMPILER, *flags, "-o", str(built), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LD_PRELOAD": ""},  # the sanitizers are for the kernels only
        )
        assert done.returncode == 0, f"{source} does not compile:\n{done.stderr}"
        built.replace(path)


_ENTRY = """
extern "C" const char* shim_{name}(
    const shim::Config* config, const shim::Argument* arguments, int num_arguments) {{
    return shim::launch({name}, *config, arguments, num_arguments);
}}
"""


def _cache_folder() -> Path:
    """Beside pytest's own cache, which git ignores."""
    folder = Path(__file__).parents[2] / ".pytest_cache" / "shim"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def sanitized(*arguments: str) -> tuple[str, list[str]]:
    """Run pytest with these arguments in a process where the sanitizers watch the kernels.

    Returns:
        All it printed, and the sanitizers' findings.
    """
    runtimes = [
        subprocess.run(
            [COMPILER, f"-print-file-name=lib{name}.so"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("asan", "ubsan", "stdc++")
    ]
    environment = {
        **os.environ,
        SANITIZE: "1",
        "LD_PRELOAD": " ".join(runtimes),
        "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    findings = re.findall(r"AddressSanitizer: .*|runtime error: .*", done.stdout)
    if done.returncode != 0:
        findings.append(f"pytest ended with {done.returncode}")
    return done.stdout, findings
