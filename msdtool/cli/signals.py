"""Signals that ask a command to stop at the next safe point."""

import os
import signal
from types import FrameType

EXIT_CODES = {
    "SIGINT": 130,
    "SIGTERM": 75,
    "SIGHUP": 75,  # the terminal or the connection is gone
    "SIGUSR1": 75,
    "SIGUSR2": 75,  # Grid Engine, before it kills
    "SIGXCPU": 75,  # the limit of processor time, of ulimit and some schedulers
}


class StopRequest:
    """Remembers that one of these signals arrived; a second SIGINT interrupts at once.

    A SIGHUP that is ignored from the start, as below nohup, stays so.
    """

    def __init__(self) -> None:
        self.signal_name = ""
        for name in EXIT_CODES:
            if not hasattr(signal, name):
                continue
            number = getattr(signal, name)
            if name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note)

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
