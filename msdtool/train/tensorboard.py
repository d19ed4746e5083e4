"""Epoch rows for TensorBoard, an optional dependency."""

from pathlib import Path
from typing import Any

from msdtool.errors import ConfigError


class TensorBoardLog:
    """Writes the numbers of epoch rows to files in ``folder``.

    Raises:
        ConfigError: the package is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ConfigError(
                "run.tensorboard: TensorBoard is not installed; "
                "pip install 'msdtool[tensorboard]', or remove the key"
            ) from None
        self.folder = folder
        self._writer_class = SummaryWriter

    def add(self, row: dict[str, Any]) -> None:
        """Write the numbers of one epoch."""
        with self._writer_class(str(self.folder)) as writer:
            for key, value in row.items():
                if isinstance(value, float):
                    writer.add_scalar(key, value, row["epoch"])
