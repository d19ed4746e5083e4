"""What this machine can do, what stands in the way, and how to fix it.

A finding is "works", "absent" (the machine lacks it and nothing is wrong, for example no GPU) or
"broken" (it should work and does not).
"""

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import torch

from msdtool.data.extras import EXTRAS, package_problem
from msdtool.doctor import kernels
from msdtool.errors import KernelError
from msdtool.ops.cpu import native_build
from msdtool.ops.cuda import installation, launcher
from msdtool.system_memory import system_memory

DRIVER = Path("/proc/driver/nvidia/version")
OLDEST_CAPABILITY = (7, 5)  # the oldest that CUDA 13's compiler supports

WORKS, ABSENT, BROKEN = "works", "absent", "broken"


@dataclass(frozen=True)
class Finding:
    """One examined item: its state, what was found, and how to fix it unless it works."""

    name: str
    state: str
    found: str
    advice: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine() -> Iterator[Finding]:
    """Examine everything, the self-test last; takes up to a minute where kernels are compiled."""
    yield Finding("python", WORKS, platform.python_version())
    yield find_processors()
    yield find_memory()
    yield find_torch()
    for package in EXTRAS:
        yield find_extra(package)
    yield find_driver()
    yield find_compiled_engine()
    gpus = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    yield from find_cupy(bool(gpus))
    for device in gpus:
        yield find_gpu(device)
    for device in (torch.device("cpu"), *gpus):
        yield self_test(device)


def find_processors() -> Finding:
    """The processors that this process may use, and torch's threads on them."""
    # Only Linux binds processes to processors.
    is_bound = hasattr(os, "sched_getaffinity")
    count = len(os.sched_getaffinity(0)) if is_bound else os.cpu_count()
    threads = torch.get_num_threads()
    return Finding("processors", WORKS, f"{count}, of which torch uses {threads}")


def find_memory() -> Finding:
    """The memory that this process may still take."""
    available = system_memory().available
    if available is None:
        return Finding("memory", ABSENT, "the system does not say how much is available")
    return Finding("memory", WORKS, f"{available / 2**30:.1f} GiB available")


def find_extra(package: str) -> Finding:
    """A package that only some file formats need: its version, or how to get or repair it."""
    name = f"extra {EXTRAS[package]}"
    try:
        import_module(package)
    except Exception as error:  # whatever a package raises that does not fit the others
        is_absent = isinstance(error, ModuleNotFoundError) and error.name == package
        return Finding(name, ABSENT if is_absent else BROKEN, package_problem(package, error))
    return Finding(name, WORKS, f"{package} {version(packages_distributions()[package][0])}")


def find_torch() -> Finding:
    """The build of torch; one without CUDA is broken if there is an NVIDIA driver."""
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
    advice = "update the driver, or install the torch build that matches it"
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        advice += f"; CUDA_VISIBLE_DEVICES is {os.environ['CUDA_VISIBLE_DEVICES']!r}"
    return Finding("driver", BROKEN, f"{version}, but torch finds no GPU", advice)


def find_compiled_engine() -> Finding:
    """The compiled CPU engine, built by the system's C++ compiler; it is optional."""
    try:
        native_build.load(torch.float32)
    except KernelError as error:
        has_compiler = "CXX" in os.environ or any(map(shutil.which, native_build.COMPILERS))
        return Finding("compiled engine", BROKEN if has_compiler else ABSENT, error.message)
    return Finding("compiled engine", WORKS, f"cached in {native_build.cache_folder()}")


def find_cupy(needed: bool) -> Iterator[Finding]:
    """CuPy, CUDA's compiler and the cache of compiled kernels; ``needed`` if there is a GPU."""
    state = BROKEN if needed else ABSENT
    problem = installation.cupy_problem()
    if problem is not None:
        yield Finding("CuPy", state, problem if needed else "not needed without a GPU")
        return
    problem = installation.nvrtc_problem()
    if problem is not None:
        yield Finding("NVRTC", state, problem)
        return
    versions = installation.versions()
    yield Finding("CuPy", WORKS, versions["CuPy"])
    yield Finding("NVRTC", WORKS, versions["NVRTC"])
    yield find_cache(Path(versions["cache"]))


def find_cache(folder: Path) -> Finding:
    """Whether compiled kernels can be cached."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding(
            "kernel cache", BROKEN, f"{folder}: {error.strerror}",
            "set CUPY_CACHE_DIR to a writable folder, preferably on a local disk",
        )  # fmt: skip
    return Finding("kernel cache", WORKS, str(folder))


def find_gpu(device: torch.device) -> Finding:
    """A GPU's name, memory and compute capability."""
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
            f"kernels need {oldest} or newer; torch's own operations may still run on this GPU",
        )  # fmt: skip
    return Finding(str(device), WORKS, found)


def self_test(device: torch.device) -> Finding:
    """Whether the device computes correctly: every kernel against plain torch."""
    name = f"self-test on {device}"
    number = 0
    try:
        for check in kernels.check_all(device):
            number += 1
            if not check.passed:
                return Finding(
                    name, BROKEN,
                    f"{check.name}: relative error {check.error:.2g}, allowed {check.allowed:.2g}",
                    "results on this device cannot be trusted; please report this output",
                )  # fmt: skip
    except (KernelError, RuntimeError) as error:
        return Finding(name, BROKEN, str(error), "please report this output")
    obstacle = launcher.obstacle(device)
    if device.type == "cuda" and obstacle is not None:
        return Finding(
            name, BROKEN, f"{number} checks passed, but CUDA kernels cannot run: {obstacle}",
            "everything works without them, only slower",
        )  # fmt: skip
    return Finding(name, WORKS, f"{number} checks passed")


def _driver_version() -> str | None:
    """The driver's version as Linux reports it, or None if there is no driver."""
    try:
        words = DRIVER.read_text(encoding="utf-8").split("\n")[0].split()
    except OSError:
        return None
    return next((word for word in words if word[0].isdigit() and "." in word), "unknown version")
