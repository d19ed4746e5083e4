"""A run directory: the names in it, and who may write there."""

import errno
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msdtool import strict_json
from msdtool.atomic import PARTIAL, atomic_path
from msdtool.errors import Error, RunDirectoryError
from msdtool.runs.lock import FolderLock

Row = dict[str, Any]


class RunDirectory:
    """The files of one training run.

    Args:
        path: the folder; it need not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.config = self.path / "config.yaml"
        self.environment = self.path / "environment.json"
        self.metrics = self.path / "metrics.jsonl"
        self.log_file = self.path / "log.txt"
        self.checkpoints = self.path / "checkpoints"
        self.last = self.checkpoints / "last.pt"
        self.best = self.checkpoints / "best.pt"
        self.previews = self.path / "previews"
        self.report = self.path / "report"
        self.tensorboard = self.path / "tensorboard"
        self._lock: FolderLock | None = None

    @property
    def holds_run(self) -> bool:
        """Whether a run was started here."""
        # A config.yaml alone may be a user's own experiment.
        return self.environment.exists() or self.last.exists()

    def claim(self, *, resume: bool, overwrite: bool) -> None:
        """Make the folder and check that a run may use it; nothing in it is replaced yet.

        Until `release`, other processes of this machine cannot claim it.

        Raises:
            RunDirectoryError: it holds a run and neither flag says what to do with it, or it holds
                other files, or another process has it, or it cannot be made.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunDirectoryError(f"{self.path}: is a file; choose another run.directory")
        if self.holds_run and not resume and not overwrite:
            raise RunDirectoryError(
                f"{self.path}: holds a run already; continue it with --resume, replace it with "
                "--overwrite, or choose another place with --run-dir"
            )
        if not self.holds_run and self._holds_other_files():
            raise RunDirectoryError(
                f"{self.path}: holds files that are not a run; choose an empty or new folder"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.release()
            self._lock = FolderLock(self.path)
            self._remove_partial_files()
        except OSError as error:
            raise RunDirectoryError(
                f"{self.path}: cannot be used as run directory: {error.strerror}"
            ) from None
        if not os.access(self.path, os.W_OK):
            raise RunDirectoryError(f"{self.path}: no permission to write there")

    def release(self) -> None:
        """Let other processes claim the folder."""
        if self._lock is not None:
            self._lock.release()

    def _holds_other_files(self) -> bool:
        return self.path.is_dir() and any(not file.match(PARTIAL) for file in self.path.iterdir())

    def _remove_partial_files(self) -> None:
        """Remove what a process that was killed was just writing."""
        for folder in (self.path, self.checkpoints, self.previews, self.report):
            for file in folder.glob(PARTIAL):
                file.unlink()

    def clear(self) -> None:
        """Remove what a run writes, and nothing else; what tells that it is one goes last.

        Raises:
            RunDirectoryError: a file cannot be removed.
        """
        try:
            for folder, pattern in (
                (self.checkpoints, "*.pt"),
                (self.previews, "*.png"),
                (self.report, "curves.png"),
                (self.tensorboard, "events.*"),
            ):
                for file in folder.glob(pattern):
                    file.unlink()
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
            for file in (self.metrics, self.log_file, self.config, self.environment):
                file.unlink(missing_ok=True)
        except OSError as error:
            raise RunDirectoryError(
                f"{error.filename}: cannot be removed: {error.strerror}"
            ) from None

    def write_text(self, path: Path, text: str) -> None:
        """Write a small file whole."""
        with writing(path), atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def append_row(self, row: Row) -> None:
        """Add one event to metrics.jsonl and put it on disk."""
        with writing(self.metrics), self.metrics.open("a", encoding="utf-8") as file:
            file.write(strict_json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read_rows(self) -> list[Row]:
        """All events of metrics.jsonl; a last line that was not written whole is left out."""
        if not self.metrics.exists():
            return []
        lines = self.metrics.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines]

    @property
    def metrics_bytes(self) -> int:
        """Length of metrics.jsonl; a checkpoint records it."""
        return self.metrics.stat().st_size if self.metrics.exists() else 0

    def forget_rows_after(self, metrics_bytes: int) -> None:
        """Drop events written after a checkpoint: they are about to happen again."""
        if self.metrics_bytes > metrics_bytes:
            os.truncate(self.metrics, metrics_bytes)

    def log(self, message: str) -> None:
        """Add a line with the time to log.txt."""
        with writing(self.log_file), self.log_file.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {message}\n")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write ``path`` into an Error that names it.

    Raises:
        Error: for example because the disk is full.
    """
    try:
        yield
    except OSError as error:
        hint = ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "; free some, then continue with --resume"
        raise Error(f"{path}: cannot be written: {error.strerror or error}{hint}") from None
