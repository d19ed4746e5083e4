"""Memory of the machine and of this process, within the limits that a container or job sets."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

if sys.platform != "win32":
    import resource


@dataclass(frozen=True)
class SystemMemory:
    """Sizes in bytes; None where the system does not report it.

    Attributes:
        total: memory of the machine.
        available: memory that can still be allocated without swapping: the machine's, or less
            where a control group of this process has less left.
        resident: memory that this process occupies.
    """

    total: int | None
    available: int | None
    resident: int | None


class _Files(NamedTuple):
    """Where a version of control groups keeps its figures, all in bytes."""

    limit: str
    usage: str
    cache: tuple[str, ...]  # lines of memory.stat: part of the usage that is freed on demand


_VERSION_1 = _Files(
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    ("total_inactive_file", "total_active_file"),
)
_VERSION_2 = _Files("memory.max", "memory.current", ("inactive_file", "active_file"))


def system_memory(root: Path = Path("/")) -> SystemMemory:
    """Read the current sizes, which Linux exposes in /proc and the file system of control groups.

    Args:
        root: the folder that holds proc and the mount points of control groups.
    """
    resident = _resident(root)
    available = _line(root / "proc/meminfo", "MemAvailable:")
    left = [room for room in _rooms(root, resident or 0) if room is not None]
    sizes = left if available is None else [available, *left]
    return SystemMemory(
        _line(root / "proc/meminfo", "MemTotal:"), min(sizes, default=None), resident
    )


def peak_memory(root: Path = Path("/")) -> int | None:
    """Return the most memory that this process has occupied, in bytes; None on Windows.

    Linux has a count of its own; ru_maxrss includes what the parent process occupied when it made
    this one.

    Args:
        root: the folder that holds proc.
    """
    peak = _line(root / "proc/self/status", "VmHWM:")
    if peak is not None or sys.platform == "win32":
        return peak
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def _resident(root: Path) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        pages = int(_read(root / "proc/self/statm").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return None


def _rooms(root: Path, resident: int) -> Iterator[int | None]:
    """Yield what each control group that binds this process has left, its own and those above."""
    for files, folder, top in _groups(root):
        for group in (folder, *folder.parents):
            yield _room(group, files, resident)
            if group == top:
                break


def _room(group: Path, files: _Files, resident: int) -> int | None:
    """Return what a control group has left; None if it is not limited.

    Version 1 writes a number near 2**63 for "unlimited"; the room that follows binds nothing.
    """
    limit = _number(_read(group / files.limit))
    if limit is None:
        return None
    usage = _number(_read(group / files.usage))
    if usage is None:
        return max(limit - resident, 0)
    lines = dict(re.findall(r"^(\w+) (\d+)$", _read(group / "memory.stat"), re.MULTILINE))
    cache = sum(int(lines.get(name, 0)) for name in files.cache)
    return max(limit - max(usage - cache, 0), 0)


def _groups(root: Path) -> Iterator[tuple[_Files, Path, Path]]:
    """Yield the memory control groups of this process: file names, folder, folder of the topmost.

    A hybrid system mounts both versions, and either may hold the limits of memory.
    """
    groups = [
        line.split(":", 2) for line in _read(root / "proc/self/cgroup").splitlines() if ":" in line
    ]
    for _, controllers, path in groups:
        is_version_2 = controllers == ""
        if not is_version_2 and "memory" not in controllers.split(","):
            continue
        place, mounted = _mount(root, is_version_2)
        top = root / place.lstrip("/")
        # In a container the path may be the one of the host, of which the mount shows a part.
        inside = PurePosixPath(path)
        inner = inside.relative_to(mounted) if inside.is_relative_to(mounted) else PurePosixPath()
        folder = top / inner
        is_visible = ".." not in inner.parts and folder.is_dir()
        yield _VERSION_2 if is_version_2 else _VERSION_1, folder if is_visible else top, top


def _mount(root: Path, is_version_2: bool) -> tuple[str, str]:
    """Where control groups of memory are mounted, and which of them is the topmost there."""
    for line in _read(root / "proc/self/mountinfo").splitlines():
        # 33 23 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
        front, _, back = line.partition(" - ")
        fields, kind = front.split(), back.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        if is_version_2 and kind[0] == "cgroup2":
            return fields[4], fields[3]
        if not is_version_2 and kind[0] == "cgroup" and "memory" in kind[2].split(","):
            return fields[4], fields[3]
    return ("/sys/fs/cgroup", "/") if is_version_2 else ("/sys/fs/cgroup/memory", "/")


def _line(path: Path, name: str) -> int | None:
    """Return a line of a file in /proc, which counts in kB, in bytes."""
    found = re.search(rf"^{name}\s+(\d+) kB$", _read(path), re.MULTILINE)
    return None if found is None else 1024 * int(found[1])


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdecimal() else None


def _read(path: Path) -> str:
    """Return a file's text; empty if there is none."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
