"""Where a run happened: versions, machine and device, as plain data."""

import os
import platform
import socket
import sys
from importlib.metadata import PackageNotFoundError, version

import torch

from msdtool.nn.device import device_name
from msdtool.ops.block import implementation_for

PACKAGES = ("msdtool", "torch", "numpy", "tifffile", "imageio", "torchmetrics")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def environment(device: torch.device, num_processes: int = 1) -> dict[str, object]:
    """What environment.json holds; host, threads and device are those of the first process."""
    variables = (
        "CUDA_VISIBLE_DEVICES",
        "OMP_NUM_THREADS",
        "SLURM_JOB_ID",
        "SLURM_JOB_NODELIST",
        "SLURM_RESTART_COUNT",
        "TORCHELASTIC_RESTART_COUNT",
    )
    return {
        "versions": versions(),
        "command": sys.argv,
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "processes": num_processes,
        "threads": torch.get_num_threads(),
        "device": device_name(device),
        "engine": implementation_for(device, torch.float32),
        "variables": {name: os.environ[name] for name in variables if name in os.environ},
    }
