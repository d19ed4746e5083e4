"""Reports on the progress of long-running work."""

from typing import Protocol


class Progress(Protocol):
    """Called from time to time while the work runs."""

    def __call__(self, done: float, total: float, note: str = "", /) -> None:
        """Report that ``done`` of ``total`` units are complete; ``note`` names the current one."""


def no_progress(done: float, total: float, note: str = "", /) -> None:
    """Report to nobody: the default of everything that reports."""
