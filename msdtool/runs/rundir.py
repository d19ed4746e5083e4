"""A run directory: the names in it, and which process may write there."""

import json
import os
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from msdtool import strict_json
from msdtool.atomic import PARTIAL, atomic_path
from msdtool.errors import RunDirectoryError
from msdtool.file_errors import cannot_write
from msdtool.lock import LOCK_NAME, InUseError, Lock

Row = dict[str, Any]


class RunDirectory:
    """The files of one training run.

    Args:
        path: the folder, which need not exist.
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
        self._lock: Lock | None = None

    @property
    def holds_run(self) -> bool:
        """Whether a run was started in this folder."""
        # A config.yaml alone may be a user's own experiment.
        return self.environment.exists() or self.last.exists()

    def claim(self, *, resume: bool, overwrite: bool) -> None:
        """Make the folder and check that a run may use it; nothing in it is replaced yet.

        Until `release`, other processes cannot claim it; see `msdtool.lock.Lock`.

        Raises:
            RunDirectoryError: it holds a run and neither flag says what to do with it, or it holds
                other files, or another process uses it, or it cannot be created.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunDirectoryError(
                f"{self.path}: is a file; choose another run.directory", hint_key="run.directory"
            )
        if self.holds_run and not resume and not overwrite:
            raise RunDirectoryError(
                f"{self.path}: already holds a run; resume it, overwrite it, or choose another "
                "run.directory",
                hint_key="resume overwrite run.directory",
            )
        if not self.holds_run and self._holds_other_files():
            raise RunDirectoryError(
                f"{self.path}: holds files that are not a run; choose an empty or new folder"
            )
        with cannot_write(self.path, RunDirectoryError, doing="used as run directory"):
            self.path.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path, os.W_OK):
                raise RunDirectoryError(f"{self.path}: no permission to write there")
            self.release()
            try:
                self._lock = Lock(self.path / LOCK_NAME)
            except InUseError as holder:
                raise RunDirectoryError(
                    f"{self.path}: {holder} is using this run directory; wait for it to end, stop "
                    "it, or choose another run.directory",
                    hint_key="run.directory",
                ) from None
            self._remove_partial_files()

    def release(self) -> None:
        """Let other processes claim the folder."""
        if self._lock is not None:
            self._lock.release()

    def _holds_other_files(self) -> bool:
        return self.path.is_dir() and any(
            not file.name.startswith(LOCK_NAME) and not file.match(PARTIAL)
            for file in self.path.iterdir()
        )

    def _remove_partial_files(self) -> None:
        """Remove files that a killed process had not finished writing."""
        for folder in (self.path, self.checkpoints, self.previews, self.report):
            for file in folder.glob(PARTIAL):
                file.unlink()

    def clear(self) -> None:
        """Remove what a run writes and nothing else; the files that mark it as a run go last.

        Raises:
            RunDirectoryError: a file cannot be removed.
        """
        for folder, pattern in (
            (self.checkpoints, "*.pt"),
            (self.previews, "*.png"),
            (self.report, "curves.png"),
            (self.tensorboard, "events.*"),
        ):
            for file in folder.glob(pattern):
                _remove(file)
            if folder.is_dir() and not any(folder.iterdir()):
                with cannot_write(folder, RunDirectoryError, doing="removed"):
                    folder.rmdir()
        for file in (self.metrics, self.log_file, self.config, self.environment):
            _remove(file)

    def write_text(self, path: Path, text: str) -> None:
        """Write a small file atomically."""
        with writing(path), atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def append_row(self, row: Row) -> None:
        """Append one event to metrics.jsonl and sync it to disk."""
        with writing(self.metrics), self.metrics.open("a", encoding="utf-8") as file:
            file.write(strict_json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read_rows(self) -> list[Row]:
        """Return all events of metrics.jsonl; an incomplete last line is left out."""
        if not self.metrics.exists():
            return []
        lines = self.metrics.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines]

    @property
    def metrics_bytes(self) -> int:
        """Length of metrics.jsonl in bytes; a checkpoint records it."""
        return self.metrics.stat().st_size if self.metrics.exists() else 0

    def forget_rows_after(self, metrics_bytes: int) -> None:
        """Drop the events written after a checkpoint: they are about to happen again."""
        if self.metrics_bytes > metrics_bytes:
            os.truncate(self.metrics, metrics_bytes)

    def log(self, message: str) -> None:
        """Append a line with the time to log.txt."""
        # A message may name files whose names are not UTF-8.
        with (
            writing(self.log_file),
            self.log_file.open("a", encoding="utf-8", errors="backslashreplace") as file,
        ):
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {message}\n")


def writing(path: Path) -> AbstractContextManager[None]:
    """Turn a failure to write ``path``, a file of a run, into an Error that names it."""
    return cannot_write(path, hint_key="resume")


def _remove(file: Path) -> None:
    with cannot_write(file, RunDirectoryError, doing="removed"):
        file.unlink(missing_ok=True)
