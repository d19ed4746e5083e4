"""What the measurements are made on: facts, and the fastest it can multiply matrices."""

import os
import platform
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import torch

from msdtool.bench.timing import bench
from msdtool.nn.device import device_name
from msdtool.ops import kernels
from msdtool.ops.block import implementation_for
from msdtool.ops.memory import release_spare
from msdtool.train.environment import versions

GEMM_SIZES = {"cpu": 2048, "cuda": 8192}
GEMM_SECONDS = 0.4
COPY_BYTES = 2**30


def machine_facts(device: torch.device) -> dict[str, object]:
    """The machine, its software and what else keeps it busy, as plain data."""
    found = versions()
    shown = {name: found[name] for name in ("python", "msdtool", "torch")}
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device_name(device),
        "engine": implementation_for(device, torch.float32),
        "memory_bytes": _memory("MemTotal"),
        # Above the number of CPUs, somebody else is measured, too.
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "platform": platform.platform(),
        "versions": {**shown, **_cuda_versions(device)},
    }


def _cuda_versions(device: torch.device) -> dict[str, str]:
    """What else the figures of a GPU depend on."""
    if device.type != "cuda":
        return {}
    found = {"CUDA": str(torch.version.cuda)}
    if kernels.obstacle(device) is None:
        found |= {name: kernels.versions()[name] for name in ("CuPy", "NVRTC")}
    return found


def cpu_model() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def available_bytes(device: torch.device) -> int | None:
    """Memory that the device has left, or None where that is not known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    release_spare()
    return _memory("MemAvailable")


def _memory(name: str) -> int | None:
    """A line of Linux's /proc/meminfo, in bytes."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    values = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return next((1024 * int(value) for value in values), None)


def synchronizer(device: torch.device) -> Callable[[], object] | None:
    """What waits for the device to finish; nothing for CPUs, which do not work ahead."""
    return (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else None


def sgemm_peak(device: torch.device) -> float:
    """FLOP per second of the best of several products of square float32 matrices."""
    size = GEMM_SIZES[device.type]
    left, right = torch.rand(2, size, size, device=device)
    product = torch.empty_like(left)
    timed = bench(
        "sgemm",
        lambda: torch.mm(left, right, out=product),
        seconds=GEMM_SECONDS,
        synchronize=synchronizer(device),
    )
    return 2 * size**3 / timed.best


def copy_bandwidth(device: torch.device) -> float | None:
    """Bytes per second read and written by a copy in a GPU's memory; None for CPUs."""
    if device.type != "cuda":
        return None
    source = torch.zeros(COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    timed = bench(
        "copy",
        lambda: target.copy_(source),
        seconds=GEMM_SECONDS,
        synchronize=synchronizer(device),
    )
    return 2 * COPY_BYTES / timed.best
