"""The machine that is measured: facts, and its fastest matrix product and copy."""

import os
import platform
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import torch

from msdtool.bench.timing import bench
from msdtool.nn.device import device_name
from msdtool.ops.cpu.buffers import release_spare
from msdtool.ops.cuda import installation, launcher
from msdtool.ops.engines import implementation_for
from msdtool.runs.versions import versions
from msdtool.system_memory import system_memory

GEMM_SIZES = {"cpu": 2048, "cuda": 8192}
GEMM_SECONDS = 0.4
COPY_BYTES = 2**30


def machine_facts(device: torch.device) -> dict[str, object]:
    """Return the machine, its software and its load as plain data."""
    found = versions()
    shown = {name: found[name] for name in ("python", "msdtool", "torch")}
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device_name(device),
        "engine": implementation_for(device, torch.float32),
        "memory_bytes": system_memory().total,
        # Above the number of CPUs, other processes distort the measurement.
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "platform": platform.platform(),
        "versions": {**shown, **_cuda_versions(device)},
    }


def _cuda_versions(device: torch.device) -> dict[str, str]:
    """Return the additional versions that a GPU's figures depend on."""
    if device.type != "cuda":
        return {}
    found = {"CUDA": str(torch.version.cuda)}
    if launcher.obstacle(device) is None:
        found |= {name: installation.versions()[name] for name in ("CuPy", "NVRTC")}
    return found


def cpu_model() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def available_bytes(device: torch.device) -> int | None:
    """Return the free memory of the device, or None if it is unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    release_spare()
    return system_memory().available


def synchronizer(device: torch.device) -> Callable[[], object] | None:
    """Return what waits for the device to finish; None for CPUs, which are synchronous."""
    return (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else None


def sgemm_peak(device: torch.device) -> float:
    """Return the FLOP per second of the best of several products of square float32 matrices."""
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
    """Return the bytes per second read and written by a copy on a GPU; None for CPUs."""
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
