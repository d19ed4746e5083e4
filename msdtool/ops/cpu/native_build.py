"""The compiled engine's library: built from kernels/cpu by the system's compiler on first use.

A compiler on the machine itself can use every instruction of its processor. Wheels of a platform
carry the library and need none; see `msdtool.ops.cpu.prebuilt`. One that was built lies in the
user's cache folder, named after all it depends on and the digest of its content, which is compared
before it is loaded.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import torch

from msdtool.atomic import put, sync, temporary_name
from msdtool.errors import KernelError
from msdtool.file_errors import expand_home
from msdtool.ops.cpu import prebuilt
from msdtool.resources import resource_folder

log = logging.getLogger(__name__)

COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread")
REALS = {torch.float32: "float", torch.float64: "double"}
ABANDONED_SECONDS = 3600.0
"""No compiler takes as long: what is older was left by one that was killed."""
CPU_INFO = Path("/proc/cpuinfo")
# The fields that distinguish processors: x86, then ARM, then RISC-V and POWER.
CPU_FACTS = ("model name", "flags", "CPU implementer", "CPU part", "Features", "isa", "cpu")

_FOLDER_ADVICE = "Set MSDTOOL_CACHE to a folder that you may write to"

_libraries: dict[torch.dtype, ctypes.CDLL | str] = {}
_one_at_a_time = threading.Lock()


def available(dtype: torch.dtype) -> bool:
    """Whether there is a library for a dtype; compiles it if necessary."""
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


def problem(dtype: torch.dtype) -> str | None:
    """Why there is no library for a dtype, and the cure; None: there is one."""
    found = _load(dtype)
    return found if isinstance(found, str) else None


def _load(dtype: torch.dtype) -> ctypes.CDLL | str:
    """The library, or why there is none."""
    if dtype not in _libraries:
        with _one_at_a_time:
            if dtype not in _libraries:  # no other thread has loaded it meanwhile
                _libraries[dtype] = _try_to_load(dtype)
    return _libraries[dtype]


def _try_to_load(dtype: torch.dtype) -> ctypes.CDLL | str:
    try:
        path = prebuilt.library(REALS[dtype]) or _library(dtype)
        log.debug(f"the compiled engine is {path}")
        return ctypes.CDLL(str(path))
    # ValueError: unmatched quotes in CXX. RuntimeError: a user without a home folder.
    except (OSError, subprocess.SubprocessError, ValueError, RuntimeError) as error:
        return f"the compiled engine cannot be built: {error}. {_advice()}"
    except KernelError as error:
        return error.message


def cache_folder() -> Path:
    """Where libraries are kept: $MSDTOOL_CACHE, or msdtool in the user's cache folder."""
    chosen = os.environ.get("MSDTOOL_CACHE")
    if chosen:
        return expand_home(chosen, KernelError)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "msdtool"


def _library(dtype: torch.dtype) -> Path:
    """The library's path; compiles it unless it exists."""
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
    stem = _private(cache_folder()) / f"block-{REALS[dtype]}-{key.hexdigest()[:32]}"
    _remove_abandoned(stem.parent)
    return _kept(stem) or _built(stem, [*command, str(main)])


def _kept(stem: Path) -> Path | None:
    """The library of that name, followed by its digest; damaged and foreign ones are removed."""
    for path in stem.parent.glob(f"{stem.name}-*.so"):
        if _is_trusted(path) and path.stem.rpartition("-")[2] == _digest(path):
            return path
        path.unlink(missing_ok=True)
    return None


def _remove_abandoned(folder: Path) -> None:
    """Remove what compilers that were killed left, of this library or of earlier ones."""
    for old in folder.glob(".block-*.part"):  # a name by `temporary_name`
        with suppress(OSError):  # another process may have removed it
            if time.time() - old.lstat().st_mtime > ABANDONED_SECONDS:
                old.unlink()


def _built(stem: Path, command: list[str]) -> Path:
    """Compile the library and name it after its content."""
    temporary = temporary_name(stem)
    log.debug(f"compiles the engine: {shlex.join(command)}")
    try:
        _compile([*command, "-o", str(temporary)])
        temporary.chmod(0o700)  # whatever the umask lets others do
        sync(temporary)
        path = stem.with_name(f"{stem.name}-{_digest(temporary)}.so")
        put(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def _is_trusted(path: Path) -> bool:
    """Whether a library is a file, not a link to one, that nobody else could have written."""
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and not _is_foreign(status)


def _is_foreign(status: os.stat_result) -> bool:
    """Whether another user owns it or may write to it; root may, who can do anything anyway."""
    if not hasattr(os, "getuid"):
        return False
    return status.st_uid not in (0, os.getuid()) or bool(status.st_mode & 0o022)


def _compiler() -> list[str]:
    """The command in $CXX, else the first compiler found."""
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
    """Create the folder for the user alone; refuse one whose libraries others could replace."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError as error:
        raise KernelError(
            f"the compiled engine cannot be kept in {folder}: {error.strerror}. {_FOLDER_ADVICE}"
        ) from None
    # A folder of root is as safe: a container may come with one that its user cannot write to.
    if _is_foreign(folder.stat()):
        raise KernelError(
            f"{folder} belongs to another user or others may write to it, so no library is "
            "loaded from it. Set MSDTOOL_CACHE to a folder of your own"
        )
    if not writable and not any(folder.glob("block-*.so")):
        raise KernelError(
            f"the compiled engine cannot be kept in {folder}: no permission to write there. "
            f"{_FOLDER_ADVICE}"
        )
    return folder


def _machine() -> str:
    """What a library depends on besides the compiler: machines may share a cache folder."""
    system = f"{platform.machine()} {' '.join(platform.libc_ver())}"
    if not CPU_INFO.exists():
        return f"{system} {platform.processor()}"
    lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    facts = {line for line in lines if line.partition(":")[0].strip() in CPU_FACTS}
    return "\n".join((system, *sorted(facts)))


def _advice() -> str:
    return (
        "Install a C++ compiler, such as g++, or name one in CXX; libraries are kept in "
        "MSDTOOL_CACHE or in ~/.cache/msdtool"
    )
