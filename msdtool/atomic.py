"""Files and folders that are either complete or absent, and what they may replace.

A result replaces a regular file, or the one that a link leads to; a folder only if all it holds was
written by us. Folders, devices, pipes and sockets of others stay as they are.
"""

import errno
import json
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

LEFTOVER = re.compile(r"[0-9a-f]{8}\.part")
"""How temporary names go on behind the file's; libraries, such as torch's profiler, add to them."""
IS_WINDOWS = os.name == "nt"
"""Windows does not sync folders, nor files that are open to be read."""
PARTIAL = ".*.part"
"""Pattern of the temporary names; a killed process leaves such files behind."""

PNG_START = b"\x89PNG\r\n\x1a\n"
"""What a PNG begins with."""
MARKER = ".msdtool.json"
"""The file in a folder of ours that lists what we wrote into it."""

LEFT_BY_SYSTEMS = (".DS_Store", "Thumbs.db", "desktop.ini")
"""Files that looking at a folder creates; they are nobody's work."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFREG: "a file",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


@contextmanager
def atomic_path(path: Path, *, is_claimed: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on exit, sync it and rename it to ``path``.

    If the block raises, the temporary file is removed and ``path`` stays as it was. Missing folders
    are created. A link is written through to the file that it leads to.

    Args:
        path: the file.
        is_claimed: the caller keeps others from writing it, and removes their `leftovers` itself.

    Raises:
        OSError: the file cannot be written, or what is there must not be replaced.
    """
    target = destination(path)
    make_folder(target.parent)
    temporary = temporary_name(target)
    with nullcontext() if is_claimed else _among_writers(target):
        try:
            yield temporary
            sync(temporary)
            put(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _among_writers(target: Path) -> Iterator[None]:
    """Hold what tells writers of a folder from killed ones; remove what those left of a file.

    All writers share a lock of the folder, which the system releases when they end for any reason.
    Where it does not lock folders, as Windows and NFS do not, nothing is removed.
    """
    if sys.platform == "win32":
        yield
        return
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        with suppress(OSError):
            found = leftovers(target)
            if found:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for path in found:
                    path.unlink()
        with suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_SH)
        yield
    finally:
        os.close(folder)


def temporary_name(path: Path) -> Path:
    """Return a hidden name beside ``path`` that nobody else uses or can foresee."""
    # Not the process ID: machines and containers that share a folder may use the same ones.
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def leftovers(*paths: Path) -> list[Path]:
    """Return what processes that were killed left under names that `temporary_name` gave them.

    Only who keeps others from writing the paths can tell these from files that are being written.

    Args:
        paths: in one folder, which is read once: it may hold many thousands of results.
    """
    starts = [f".{path.name}." for path in paths]
    with suppress(FileNotFoundError), os.scandir(paths[0].parent) as entries:
        return [
            paths[0].parent / name
            for name in (entry.name for entry in entries)
            for start in starts
            if name.startswith(start) and LEFTOVER.match(name, len(start))
        ]
    return []


def destination(path: Path, *, is_folder: bool = False) -> Path:
    """Return where a result is written: ``path``, or what it links to.

    Args:
        path: the result.
        is_folder: the result is a folder, not a file.

    Raises:
        FileExistsError: what is there must not be replaced; it says why and what to do.
        OSError: the target cannot be inspected.
    """
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):  # nothing, or a link to nothing
        kind = 0
    if kind not in (0, stat.S_IFDIR if is_folder else stat.S_IFREG):
        wanted = "a folder of results" if is_folder else "a regular file"
        _refuse(path, f"it is {_KINDS[kind]}, and only {wanted} is replaced; choose another name")
    if kind == stat.S_IFDIR:
        _check_folder(path)
    _check_links(path)
    return Path(os.path.realpath(path))


def _refuse(path: Path, reason: str) -> None:
    raise FileExistsError(errno.EEXIST, reason, str(path))


def _check_links(path: Path) -> None:
    """Refuse a link that another user may have planted in a world-writable folder, such as /tmp.

    The rule is Linux's own (protected_symlinks), which is not in force everywhere.
    """
    while path.is_symlink():
        folder, owner = path.parent.stat(), path.lstat().st_uid
        is_shared = folder.st_mode & stat.S_ISVTX and folder.st_mode & stat.S_IWOTH
        if is_shared and owner not in (os.geteuid(), folder.st_uid):
            _refuse(path, "it is a link owned by another user; choose another name")
        path = path.parent / path.readlink()


def put(temporary: Path, target: Path) -> None:
    """Give a complete file or folder its name, and sync the name to disk.

    Args:
        temporary: the complete file, or the folder that `mark` was called for; beside the target.
        target: from `destination`.

    Raises:
        OSError: what came to be there meanwhile must not be replaced, or the like.
    """
    destination(target, is_folder=temporary.is_dir())
    if temporary.is_dir() and target.exists():
        # No system call that Python knows replaces a folder that is not empty.
        old = temporary_name(target)
        target.rename(old)
        temporary.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        temporary.replace(target)
    sync(target.parent)


def mark(folder: Path, place: Path) -> None:
    """Note in a folder what we wrote into it, and sync that to disk, before it gets its name.

    Args:
        folder: the complete result.
        place: where the note lies, in the folder or the first one inside it.

    Raises:
        OSError: something cannot be written.
    """
    files = sorted(_held(folder))
    for file in files:
        sync(folder / file)
    note = place / MARKER
    files.append(note.relative_to(folder).as_posix())
    note.write_text(json.dumps({"files": files}), encoding="utf-8")
    sync(note)
    sync(folder)


def is_marked(folder: Path) -> bool:
    """Whether a folder is a result: `mark` was called for it."""
    return _listed(folder) is not None


def _check_folder(path: Path) -> None:
    """Refuse a folder that holds anything but what we wrote."""
    listed = _listed(path)
    foreign = next((file for file in _held(path) if file not in (listed or ())), None)
    if foreign is None:
        return
    if listed is None:
        _refuse(
            path,
            f"the folder has no {MARKER}, so msdtool did not write it; delete it yourself if "
            "unneeded, or choose another name",
        )
    _refuse(
        path,
        f"the folder holds {foreign}, which is not part of the result; move it elsewhere, or "
        "choose another name",
    )


def _listed(folder: Path) -> frozenset[str] | None:
    """What the marker of a folder lists; None if there is none, or a damaged one."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        place = folder
        while not (place / MARKER).is_file():
            # Zarr warns of strange files in a group, so there the marker lies in the first array.
            place = min(entry for entry in place.iterdir() if entry.is_dir())
        return frozenset(json.loads((place / MARKER).read_text(encoding="utf-8"))["files"])
    return None


def _held(folder: Path) -> Iterator[str]:
    """The files, and links to folders, at any depth below a folder, relative to it."""
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        for name in (*files, *links):
            if name not in LEFT_BY_SYSTEMS:
                yield (Path(place) / name).relative_to(folder).as_posix()


def check_place(path: Path, start: bytes = b"") -> None:
    """Raise OSError if no file can be written to ``path``; missing folders are created.

    Args:
        path: the file.
        start: what a file begins with that may be replaced; others are somebody's own.
    """
    target = destination(path)
    check_kind(path, start)
    make_folder(target.parent)
    with tempfile.TemporaryFile(dir=target.parent):
        pass


def check_kind(path: Path, start: bytes) -> None:
    """Raise FileExistsError if there is a file that begins otherwise, unless it is empty.

    White space before does not count: torch's profiler begins with it.
    """
    if path.is_file():
        with path.open("rb") as file:
            found = file.read(len(start) + 8)
        if found and not found.lstrip().startswith(start):
            _refuse(path, "it exists and is something else; choose another name, or remove it")


def make_folder(path: Path) -> None:
    """Create a folder and its parents where they are missing.

    Raises:
        OSError: one of them is a file, or cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None


def sync(path: Path) -> None:
    """Flush a file, or a folder's entries, to disk."""
    if IS_WINDOWS and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if IS_WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
