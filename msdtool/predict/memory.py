"""How much memory there is, and how much of it may be used."""

import math
import re
from pathlib import Path

import torch

from msdtool.errors import ConfigError, Error
from msdtool.ops.memory import release_spare
from msdtool.ops.streaming import RESERVED_BYTES

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
         "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}  # fmt: skip
# Left to others, and to what estimates leave out: buffers of libraries, rests of earlier images.
USED_SHARE = 0.8
SLACK_BYTES = 96 * 2**20
CGROUP_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


def parse_memory(text: str) -> int:
    """Bytes, from a text such as 2GB, 1.5 GiB or 800M.

    Raises:
        ConfigError: it is no such text.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]I?)?B?", text.strip().upper())
    if not match or float(match[1]) <= 0:
        raise ConfigError(f"--memory {text}: expected a size such as 2GB, 1.5GiB or 800MB")
    return int(float(match[1]) * UNITS[match[2] or ""])


def resident_bytes() -> int:
    """Memory that this process takes; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


def usable_bytes(device: torch.device, limit: int | None) -> int:
    """What an image may take of a device's memory.

    Args:
        device: where images are computed.
        limit: of the memory that the process takes on the CPU, or None for what is free. A GPU
            always gives what is free.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(USED_SHARE * free)
    release_spare()
    if limit is not None:
        return limit - resident_bytes() - SLACK_BYTES
    return int(USED_SHARE * _free_bytes())


def check_limit(limit: int) -> None:
    """Check that a limit of this process's memory leaves room for an image.

    Raises:
        ConfigError: the process takes more already.
    """
    taken = resident_bytes() + SLACK_BYTES
    if limit <= taken:
        least = (taken + RESERVED_BYTES) / 10**6
        raise ConfigError(
            f"--memory: {limit / 10**6:.3g} MB are less than the program takes without an image, "
            f"{taken / 10**6:.0f} MB; give {math.ceil(least / 100) * 100} MB or more"
        )


def _free_bytes() -> int:
    """Memory that the system could give, within the limits of a container or a job."""
    free = 8 * 2**30  # where nothing is known
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        free = int(found[1]) * 1024 if found else free
    except OSError:
        pass
    for file in map(Path, CGROUP_LIMITS):
        try:
            limit = file.read_text().strip()
        except OSError:
            continue
        if limit.isdigit():
            free = min(free, int(limit) - resident_bytes())
    return free


def check_averaging(num_values: int, memory_bytes: int, name: str) -> None:
    """Raise Error if what an average over symmetries or splits holds does not fit the memory.

    Args:
        num_values: of the image and its results.
        memory_bytes: what the image may take.
        name: of the image.
    """
    needed, room = 4 * num_values, memory_bytes - RESERVED_BYTES
    if needed > room:
        raise Error(
            f"{name}: averages over symmetries (--tta) or splits hold the image and its results in "
            f"memory, {needed / 1e9:.2g} GB, and {max(room, 0) / 1e9:.2g} GB are left for them; "
            "give more by --memory, or do without"
        )
