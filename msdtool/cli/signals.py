"""Signals that ask a command to stop at the next safe point."""

import os
import signal
from types import FrameType

EXIT_CODES = {"SIGINT": 130, "SIGTERM": 75, "SIGUSR1": 75}


class StopRequest:
    """Remembers that SIGINT, SIGTERM or SIGUSR1 arrived; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.signal_name = ""
        for name in EXIT_CODES:
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal_name = signal.Signals(number).name
        # torchrun also sends one after the terminal has sent one to it and to all its processes.
        if self.signal_name == "SIGINT" and "TORCHELASTIC_RUN_ID" not in os.environ:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def __call__(self) -> bool:
        """Whether to stop."""
        return bool(self.signal_name)

    @property
    def exit_code(self) -> int:
        """The code to exit with: 130 for Ctrl-C, else 75, which means "requeue me"."""
        # No name: the signal went to another process of the same work.
        return EXIT_CODES.get(self.signal_name, 75)
