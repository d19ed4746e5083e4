"""Sizes, and what an image may take."""

import re

import pytest
import torch

from msdtool.errors import ConfigError
from msdtool.predict import memory
from msdtool.predict.memory import SLACK_BYTES, check_limit, parse_memory, usable_bytes
from msdtool.system_memory import SystemMemory

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2 * 10**9), ("1.5 GiB", 3 * 2**29), ("800M", 8 * 10**8), ("1e", None), ("64k", 64000),
     ("123", 123), ("0GB", None), ("-1GB", None), ("2 GBs", None), ("much", None), ("", None)],
)  # fmt: skip
def test_sizes(text, size):
    if size is not None:
        assert parse_memory(text) == size
        return
    with pytest.raises(ConfigError) as error:
        parse_memory(text)
    assert error.value.message == (
        f"memory: got {text!r}; expected a size such as 2GB, 1.5GiB or 800MB"
    )


@pytest.fixture
def system(monkeypatch):
    """Set what the system says of its memory."""

    def set_memory(available, resident):
        found = SystemMemory(None, available, resident)
        monkeypatch.setattr(memory, "system_memory", lambda: found)

    return set_memory


def test_a_limit_counts_what_the_process_takes_already(system):
    system(10**9, 3 * 10**8)
    assert usable_bytes(CPU, 10**12) == 10**12 - 3 * 10**8 - SLACK_BYTES


def test_without_a_limit_a_part_of_what_is_available_is_used(system):
    system(10**9, 3 * 10**8)
    assert usable_bytes(CPU, None) == 8 * 10**8
    system(0, None)
    assert usable_bytes(CPU, None) == 0


def test_a_system_that_does_not_tell_is_assumed_to_be_small(system):
    system(None, None)
    assert 10**9 < usable_bytes(CPU, None) < 10**10
    assert usable_bytes(CPU, 10**12) == 10**12 - SLACK_BYTES


def test_a_limit_below_what_the_process_takes_says_what_to_allow(system):
    system(10**9, 3 * 10**8)
    with pytest.raises(ConfigError) as error:
        check_limit(10**8)
    found = re.fullmatch(
        r"memory: 100 MB is below the program's baseline memory use, 401 MB; allow (\d+) MB or "
        r"more",
        error.value.message,
    )
    assert error.value.hint_key == "memory"
    least = int(found[1])
    assert 401 < least < 701
    check_limit(least * 10**6)
