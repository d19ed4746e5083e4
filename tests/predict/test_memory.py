"""Sizes, and what is free."""

import re

import pytest
import torch

from msdtool.errors import ConfigError
from msdtool.predict.memory import (
    SLACK_BYTES,
    check_limit,
    parse_memory,
    resident_bytes,
    usable_bytes,
)


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
    assert error.value.message == (f"--memory {text}: expected a size such as 2GB, 1.5GiB or 800MB")


def test_a_limit_counts_what_the_process_takes_already():
    device = torch.device("cpu")
    taken = resident_bytes()
    assert 10**7 < taken < 10**11
    assert usable_bytes(device, 10**12) == pytest.approx(10**12 - taken - SLACK_BYTES, abs=10**8)
    assert 10**6 < usable_bytes(device, None) < 10**14


def test_a_limit_below_what_the_process_takes_says_what_to_give():
    with pytest.raises(ConfigError) as error:
        check_limit(10**8)
    found = re.fullmatch(
        r"--memory: 100 MB are less than the program takes without an image, (\d+) MB; "
        r"give (\d+) MB or more",
        error.value.message,
    )
    taken, least = map(int, found.groups())
    assert taken == pytest.approx((resident_bytes() + SLACK_BYTES) / 1e6, abs=20)
    assert taken < least < taken + 300
    check_limit(least * 10**6)
