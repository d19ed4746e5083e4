"""A run directory: the names in it, and which process may write there."""

import errno
import itertools
import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from msdtool import strict_json
from msdtool.atomic import PARTIAL, atomic_path
from msdtool.errors import ModelFileError, RunDirectoryError
from msdtool.file_errors import cannot_read, cannot_write, expand_home
from msdtool.lock import LOCK_NAME, InUseError, Lock
from msdtool.runs.rows import Row, parse_row, past_rows
from msdtool.runs.training_progress import TrainingProgress
from msdtool.special_files import append_to_regular, open_regular, read_regular

MAX_BYTES = 500_000_000
"""Size of the largest metrics.jsonl that is read; a row takes about a kilobyte."""
MAX_LINE_BYTES = 100_000
"""How much of the end of log.txt is read for its last line."""

RANKS = ("best", "typical", "worst")
"""The images that previews show."""


class RunDirectory:
    """The files of one training run.

    Args:
        path: the folder, which need not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = expand_home(path, RunDirectoryError)
        self.config = self.path / "config.yaml"
        self.environment = self.path / "environment.json"
        self.metrics = self.path / "metrics.jsonl"
        self.log_file = self.path / "log.txt"
        self.checkpoints = self.path / "checkpoints"
        self.last = self.checkpoints / "last.pt"
        self.best = self.checkpoints / "best.pt"
        self.previews = self.path / "previews"
        self.report = self.path / "report"
        self.evaluation = self.report / "evaluation.json"
        self.tensorboard = self.path / "tensorboard"
        self._lock: Lock | None = None

    @property
    def model(self) -> Path | None:
        """The checkpoint that stands for the run: the best one, or the last; None without any."""
        return next((file for file in (self.best, self.last) if file.exists()), None)

    @property
    def holds_run(self) -> bool:
        """Whether a run was started in this folder."""
        # A config.yaml alone may be a user's own experiment.
        return is_there(self.environment) or is_there(self.last)

    def claim(self, *, resume: bool, overwrite: bool) -> None:
        """Make the folder and check that a run may use it; nothing in it is replaced yet.

        Until `release`, other processes cannot claim it; see `msdtool.lock.Lock`. A folder that was
        made here and is still empty then is removed.

        Raises:
            RunDirectoryError: it holds a run and neither flag says what to do with it, or it holds
                other files, or another process uses it, or it cannot be created.
        """
        if is_there(self.path) and not self.path.is_dir():
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
            if is_there(self.path) and not os.access(self.path, os.W_OK):
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
        for folder, patterns in (
            (self.checkpoints, (self.best.name, self.last.name)),
            (self.previews, tuple(f"{rank}.png" for rank in RANKS)),
            (self.report, ("curves.png", self.evaluation.name)),
            (self.tensorboard, ("events.out.tfevents.*",)),
            (self.path, ("metrics-damaged-*.jsonl",)),
        ):
            for file in itertools.chain.from_iterable(map(folder.glob, patterns)):
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
        with writing(self.metrics), append_to_regular(self.metrics) as file:
            file.write(strict_json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read_rows(self) -> list[Row]:
        """Return all events of metrics.jsonl; an incomplete last line is left out.

        Raises:
            ModelFileError: the file cannot be read, or one of its lines; names the line.
        """
        lines = self._metrics_content().split(b"\n")[:-1]
        rows = []
        for number, line in enumerate(lines, 1):
            try:
                rows.append(parse_row(line))
            except ValueError as error:
                raise ModelFileError(
                    f"{self.metrics}:{number}: is damaged: {error}; remove the line, or restore "
                    "the file"
                ) from None
        return rows

    def _metrics_content(self) -> bytes:
        with cannot_read(self.metrics, ModelFileError):
            return read_regular(self.metrics, MAX_BYTES) if self.metrics.exists() else b""

    @property
    def metrics_bytes(self) -> int:
        """Length of metrics.jsonl in bytes; a checkpoint records it."""
        return self.metrics.stat().st_size if is_there(self.metrics) else 0

    def resume_rows(self, progress: TrainingProgress, metrics_bytes: int) -> list[str]:
        """Drop the events written after a checkpoint: they are about to happen again.

        A damaged file is kept under another name, and what can be used of it stays.

        Args:
            progress: the checkpoint's.
            metrics_bytes: the length of metrics.jsonl that it records.

        Returns:
            What had to be repaired, for the log.

        Raises:
            Error: a file cannot be read or written.
        """
        content = self._metrics_content()
        past = past_rows(content, progress, metrics_bytes)
        if len(content) >= metrics_bytes and content[:metrics_bytes] == past.content:
            if len(content) > metrics_bytes:
                with writing(self.metrics):
                    os.truncate(self.metrics, metrics_bytes)
            return []
        told = []
        if content != past.content:
            kept = self._free_name()
            for path, text in ((kept, content), (self.metrics, past.content)):
                with writing(path), atomic_path(path) as temporary:
                    temporary.write_bytes(text)
            lines = f"; left out: line {_numbers(past.left_out)}" if past.left_out else ""
            told.append(
                f"{self.metrics}: is damaged and was repaired{lines}; as it was, it is kept as "
                f"{kept.name}"
            )
        if past.missing:
            told.append(f"{self.metrics}: has no row of epoch {_numbers(past.missing)}")
        return told

    def _free_name(self) -> Path:
        """Return the name under which a damaged metrics.jsonl is kept."""
        names = (self.path / f"metrics-damaged-{number}.jsonl" for number in itertools.count(1))
        return next(path for path in names if not path.exists())

    @property
    def last_logged(self) -> str:
        """The last message of log.txt; "" without any."""
        content = b""
        if is_there(self.log_file):
            with cannot_read(self.log_file, ModelFileError), open_regular(self.log_file) as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - MAX_LINE_BYTES))
                content = file.read(MAX_LINE_BYTES)
        return content.decode(errors="replace").rstrip("\n").rpartition("\n")[2].partition("  ")[2]

    def log(self, message: str) -> None:
        """Append a line with the time to log.txt."""
        # A message may name files whose names are not UTF-8.
        with (
            writing(self.log_file),
            append_to_regular(self.log_file, errors="backslashreplace") as file,
        ):
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {message}\n")


def is_there(path: Path) -> bool:
    """Whether a file or folder of a run exists.

    Raises:
        ModelFileError: its folder may not be read.
    """
    with cannot_read(path, ModelFileError):
        try:
            return path.exists()
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return False
            raise


def writing(path: Path) -> AbstractContextManager[None]:
    """Turn a failure to write ``path``, a file of a run, into an Error that names it."""
    return cannot_write(path, hint_key="resume")


def _numbers(numbers: Sequence[int], most: int = 5) -> str:
    """A few numbers, and how many there are if these are not all."""
    more = f", ... ({len(numbers)} in all)" if len(numbers) > most else ""
    return ", ".join(map(str, numbers[:most])) + more


def _remove(file: Path) -> None:
    with cannot_write(file, RunDirectoryError, doing="removed"):
        file.unlink(missing_ok=True)
