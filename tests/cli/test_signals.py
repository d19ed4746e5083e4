"""Signals that ask a command to stop."""

import os
import signal

import pytest

from msdtool.cli.signals import EXIT_CODES, StopRequest
from msdtool.data.loaders import STOP_SIGNALS

pytestmark = pytest.mark.usefixtures("keep_signal_handlers")


@pytest.mark.parametrize(("name", "code"), EXIT_CODES.items())
def test_each_is_remembered_and_has_its_exit_code(name: str, code: int) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run below nohup
    stop = StopRequest()
    assert not stop()
    os.kill(os.getpid(), getattr(signal, name))
    assert (stop(), stop.signal_name, stop.exit_code) == (True, name, code)


def test_hangups_that_nohup_ignores_stay_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop = StopRequest()
    os.kill(os.getpid(), signal.SIGHUP)
    assert not stop()


def test_processes_that_read_images_leave_all_of_them_to_the_main_one() -> None:
    assert set(STOP_SIGNALS) == set(EXIT_CODES)
