"""The compiled engine's library: built from kernels/cpu by the system's compiler on first use.

A compiler on the spot can use all that this processor has, and needs no wheel for each platform.
The library lies in a cache folder of the user, named by all that it depends on.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import threading
from pathlib import Path

import torch

from msdtool.atomic import atomic_path
from msdtool.errors import KernelError
from msdtool.resources import resource_folder

COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread")
REALS = {torch.float32: "float", torch.float64: "double"}
CPU_INFO = Path("/proc/cpuinfo")
# What tells processors apart there: x86, then ARM, then RISC-V and POWER.
CPU_FACTS = ("model name", "flags", "CPU implementer", "CPU part", "Features", "isa", "cpu")

_libraries: dict[torch.dtype, ctypes.CDLL | str] = {}
_one_at_a_time = threading.Lock()


def available(dtype: torch.dtype) -> bool:
    """Whether the library for a dtype can be had; compiles it if need be."""
    return isinstance(_load(dtype), ctypes.CDLL)


def load(dtype: torch.dtype) -> ctypes.CDLL:
    """Return the library for float32 or float64; one attempt per process.

    Raises:
        KernelError: there is no compiler, it fails, or the cache folder cannot be used.
    """
    found = _load(dtype)
    if isinstance(found, str):
        raise KernelError(found)
    return found


def _load(dtype: torch.dtype) -> ctypes.CDLL | str:
    """The library, or why it cannot be had."""
    if dtype not in _libraries:
        with _one_at_a_time:
            if dtype not in _libraries:  # no other thread made it meanwhile
                _libraries[dtype] = _try_to_load(dtype)
    return _libraries[dtype]


def _try_to_load(dtype: torch.dtype) -> ctypes.CDLL | str:
    try:
        return ctypes.CDLL(str(_library(dtype)))
    # ValueError: quotes in CXX that do not match. RuntimeError: a user without a home.
    except (OSError, subprocess.SubprocessError, ValueError, RuntimeError) as error:
        return f"the compiled engine cannot be built: {error}. {_advice()}"
    except KernelError as error:
        return error.message


def cache_folder() -> Path:
    """Where libraries are kept: $MSDTOOL_CACHE, or msdtool in the user's cache folder."""
    chosen = os.environ.get("MSDTOOL_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "msdtool"


def _library(dtype: torch.dtype) -> Path:
    """The library's path; compiles it unless it is there."""
    compiler = _compiler()
    folder = resource_folder("kernels") / "cpu"
    main, headers = folder / "msd_block.cpp", sorted(folder.glob("*.h"))
    command = [*compiler, *FLAGS, f"-DREAL={REALS[dtype]}"]
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=True).stdout
    key = hashlib.sha256()
    for part in (shlex.join(command).encode(), version, _machine().encode()):
        key.update(part + b"\0")
    for source in (main, *headers):
        key.update(source.read_bytes() + b"\0")
    path = _private(cache_folder()) / f"block-{REALS[dtype]}-{key.hexdigest()[:32]}.so"
    if not path.exists():
        with atomic_path(path) as temporary:
            _compile([*command, str(main), "-o", str(temporary)])
    return path


def _compiler() -> list[str]:
    """The command of $CXX, else the first compiler that is found."""
    chosen = os.environ.get("CXX")
    if chosen:
        return shlex.split(chosen)
    for name in COMPILERS:
        if shutil.which(name):
            return [name]
    raise KernelError(
        f"the compiled engine needs a C++ compiler; none of {', '.join(COMPILERS)} is installed. "
        f"{_advice()}"
    )


def _compile(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if result.returncode != 0:
        raise KernelError(
            f"the compiled engine cannot be built: {shlex.join(command)} failed with exit code "
            f"{result.returncode}:\n{result.stderr.strip()}\n{_advice()}"
        )


def _private(folder: Path) -> Path:
    """Make the folder for the user alone; refuse one whose libraries others could replace."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    # Root's is as safe: a container may bring a filled one that its user cannot write to.
    if hasattr(os, "getuid") and (status.st_uid not in (0, os.getuid()) or status.st_mode & 0o022):
        raise KernelError(
            f"{folder} belongs to another user or others may write to it, so no library is "
            "loaded from it. Set MSDTOOL_CACHE to a folder of your own"
        )
    return folder


def _machine() -> str:
    """What a library depends on besides the compiler, where machines share a cache folder."""
    system = f"{platform.machine()} {' '.join(platform.libc_ver())}"
    if not CPU_INFO.exists():
        return f"{system} {platform.processor()}"
    lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    facts = {line for line in lines if line.partition(":")[0].strip() in CPU_FACTS}
    return "\n".join((system, *sorted(facts)))


def _advice() -> str:
    return (
        'Install a C++ compiler or name one in CXX, or leave `impl` at "auto", which does '
        "without; libraries are kept in MSDTOOL_CACHE or in ~/.cache/msdtool"
    )
