"""The compiled engine's library in wheels of a platform, for machines without a compiler.

Such a wheel, which kernels/cpu/wheel.py builds, holds a library per level of the architecture; the
highest one that the processor has is chosen. It lies in the package and is trusted as that is.
"""

import platform
from pathlib import Path

from msdtool.resources import PACKAGE

FOLDER = PACKAGE / "share" / "prebuilt"
CPU_INFO = Path("/proc/cpuinfo")
V3 = frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"})
V4 = V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
LEVELS = {
    "x86_64": {"x86-64-v4": V4, "x86-64-v3": V3},
    "aarch64": {"armv8-a": frozenset[str]()},
}
"""By architecture: each level, the highest first, and what /proc/cpuinfo calls its features.

They are those of the x86-64 psABI; "abm" is LZCNT.
"""


def library(real: str) -> Path | None:
    """Return the library for this processor; None if the wheel has none, or none that it can run.

    Args:
        real: "float" or "double".
    """
    if not FOLDER.is_dir():
        return None
    features = _features()
    for level, needed in LEVELS.get(platform.machine(), {}).items():
        path = FOLDER / f"block-{real}-{level}.so"
        if needed <= features and path.exists():
            return path
    return None


def _features() -> set[str]:
    """What the processor can do; nothing where the system does not say."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    return {
        word
        for line in lines
        if line.partition(":")[0].strip() == "flags"
        for word in line.partition(":")[2].split()
    }
