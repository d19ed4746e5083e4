"""How much memory an image may take."""

import math
import re

import torch

from msdtool.errors import ConfigError, Error
from msdtool.ops.cpu.buffers import release_spare
from msdtool.ops.out_of_core.module import RESERVED_BYTES
from msdtool.system_memory import system_memory

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
         "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}  # fmt: skip
USED_FRACTION = 0.8
"""Of the available memory; the rest is for other processes and for what estimates leave out."""
SLACK_BYTES = 96 * 2**20
"""Of a limit: buffers of libraries, fragments of memory that earlier images leave."""
ASSUMED_BYTES = 8 * 2**30
"""Available memory where the system does not report it."""


def parse_memory(text: str) -> int:
    """Return the bytes that a string such as 2GB, 1.5 GiB or 800M stands for.

    Raises:
        ConfigError: it is not such a string.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]I?)?B?", text.strip().upper())
    if not match or float(match[1]) <= 0:
        raise ConfigError(
            f"memory: got {text!r}; expected a size such as 2GB, 1.5GiB or 800MB",
            hint_key="memory",
        )
    return int(float(match[1]) * UNITS[match[2] or ""])


def usable_bytes(device: torch.device, memory_bytes: int | None) -> int:
    """Return the bytes that an image may take of a device's memory.

    Args:
        device: where images are computed.
        memory_bytes: limit of this process's memory if the device is the CPU; None: what is
            available. On a GPU an image always takes what is available.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(USED_FRACTION * free)
    release_spare()
    memory = system_memory()
    if memory_bytes is not None:
        return memory_bytes - (memory.resident or 0) - SLACK_BYTES
    available = ASSUMED_BYTES if memory.available is None else memory.available
    return int(USED_FRACTION * available)


def check_limit(memory_bytes: int) -> None:
    """Check that a limit of this process's memory leaves room for an image.

    Raises:
        ConfigError: the process takes as much without an image.
    """
    taken = (system_memory().resident or 0) + SLACK_BYTES
    if memory_bytes <= taken:
        least = (taken + RESERVED_BYTES) / 10**6
        raise ConfigError(
            f"memory: {memory_bytes / 10**6:.3g} MB is below the program's baseline memory use, "
            f"{taken / 10**6:.0f} MB; allow {math.ceil(least / 100) * 100} MB or more",
            hint_key="memory",
        )


def check_averaging(num_values: int, usable_bytes: int, name: str) -> None:
    """Check that what an average over networks, symmetries or splits keeps in memory fits.

    Args:
        num_values: values of the image and its results, float32.
        usable_bytes: what the image may take.
        name: of the image.

    Raises:
        Error: it does not fit.
    """
    needed, room = 4 * num_values, usable_bytes - RESERVED_BYTES
    if needed > room:
        raise Error(
            f"{name}: averages over networks, symmetries or splits keep the image and its results "
            f"in memory, {needed / 1e9:.2g} GB, and {max(room, 0) / 1e9:.2g} GB is left for them; "
            "allow more memory, or do not average",
            hint_key="memory",
        )
