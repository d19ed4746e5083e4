"""What this machine can do, what stands in the way, and what to do about it.

A finding is "works", "absent" (the machine has no such thing, and nothing is wrong: no GPU, say) or
"broken" (it should work and does not).
"""

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from msdtool.errors import KernelError
from msdtool.nn import selftest
from msdtool.ops import kernels, library

DRIVER = Path("/proc/driver/nvidia/version")
OLDEST_CAPABILITY = (7, 5)  # what CUDA 13's compiler still knows

WORKS, ABSENT, BROKEN = "works", "absent", "broken"


@dataclass(frozen=True)
class Finding:
    """One thing looked at: its state, what was found, and what to do where it is not "works"."""

    name: str
    state: str
    found: str
    advice: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine() -> Iterator[Finding]:
    """Look at everything, the self-test last; takes up to a minute where kernels are compiled."""
    yield Finding("python", WORKS, platform.python_version())
    yield find_torch()
    yield find_driver()
    yield find_compiled_engine()
    gpus = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    yield from find_cupy(bool(gpus))
    for device in gpus:
        yield find_gpu(device)
    for device in (torch.device("cpu"), *gpus):
        yield self_test(device)


def find_torch() -> Finding:
    """The build of torch; one without CUDA beside a GPU is broken."""
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    found = f"{torch.__version__} ({build})"
    if torch.version.cuda is None and _driver_version() is not None:
        return Finding(
            "torch", BROKEN, f"{found}, but there is an NVIDIA driver",
            "install a CUDA build of torch: https://pytorch.org/get-started/locally",
        )  # fmt: skip
    return Finding("torch", WORKS, found)


def find_driver() -> Finding:
    """NVIDIA's driver, and whether torch can use a GPU through it."""
    version = _driver_version()
    if torch.cuda.is_available():
        return Finding("driver", WORKS, f"{version or 'present'}, {torch.cuda.device_count()} GPUs")
    if version is None:
        return Finding("driver", ABSENT, "no NVIDIA driver; everything runs on the CPU")
    advice = "update the driver, or install the build of torch for it"
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        advice += f"; CUDA_VISIBLE_DEVICES is {os.environ['CUDA_VISIBLE_DEVICES']!r}"
    return Finding("driver", BROKEN, f"{version}, but torch finds no GPU", advice)


def find_compiled_engine() -> Finding:
    """The engine for CPUs, which the system's C++ compiler builds; it is optional."""
    try:
        library.load(torch.float32)
    except KernelError as error:
        there = "CXX" in os.environ or any(map(shutil.which, library.COMPILERS))
        return Finding("compiled engine", BROKEN if there else ABSENT, error.message)
    return Finding("compiled engine", WORKS, f"kept in {library.cache_folder()}")


def find_cupy(needed: bool) -> Iterator[Finding]:
    """CuPy, CUDA's compiler and the folder for compiled kernels; ``needed`` if there is a GPU."""
    state = BROKEN if needed else ABSENT
    problem = kernels.cupy_problem()
    if problem is not None:
        yield Finding("CuPy", state, problem)
        return
    problem = kernels.nvrtc_problem()
    if problem is not None:
        yield Finding("NVRTC", state, problem)
        return
    versions = kernels.versions()
    yield Finding("CuPy", WORKS, versions["CuPy"])
    yield Finding("NVRTC", WORKS, versions["NVRTC"])
    yield find_cache(Path(versions["cache"]))


def find_cache(folder: Path) -> Finding:
    """Whether compiled kernels can be kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding(
            "kernel cache", BROKEN, f"{folder}: {error.strerror}",
            "set CUPY_CACHE_DIR to a folder that can be written, best one on a local disk",
        )  # fmt: skip
    return Finding("kernel cache", WORKS, str(folder))


def find_gpu(device: torch.device) -> Finding:
    """A GPU's name, size and generation."""
    properties = torch.cuda.get_device_properties(device)
    capability = (properties.major, properties.minor)
    found = (
        f"{properties.name}, {properties.total_memory / 2**30:.0f} GB, "
        f"compute capability {properties.major}.{properties.minor}"
    )
    if capability < OLDEST_CAPABILITY:
        oldest = ".".join(map(str, OLDEST_CAPABILITY))
        return Finding(
            str(device), BROKEN, found,
            f"kernels need {oldest} or newer; torch's own operations may still run on it",
        )  # fmt: skip
    return Finding(str(device), WORKS, found)


def self_test(device: torch.device) -> Finding:
    """Whether what runs on the device is right: every kernel against plain torch."""
    name = f"self-test on {device}"
    number = 0
    try:
        for check in selftest.check_all(device):
            number += 1
            if not check.passed:
                return Finding(
                    name, BROKEN,
                    f"{check.name}: relative error {check.error:.2g}, allowed {check.allowed:.2g}",
                    "results on this device cannot be trusted; please report this output",
                )  # fmt: skip
    except (KernelError, RuntimeError) as error:
        return Finding(name, BROKEN, str(error), "please report this output")
    obstacle = kernels.obstacle(device)
    if device.type == "cuda" and obstacle is not None:
        return Finding(
            name, BROKEN, f"{number} checks passed, but CUDA kernels cannot run: {obstacle}",
            "without them everything works, only slower",
        )  # fmt: skip
    return Finding(name, WORKS, f"{number} checks passed")


def _driver_version() -> str | None:
    """The driver's version as Linux tells it, or None if there is no driver."""
    try:
        words = DRIVER.read_text(encoding="utf-8").split("\n")[0].split()
    except OSError:
        return None
    return next((word for word in words if word[0].isdigit() and "." in word), "unknown version")
