"""Where a run took place: versions, machine and device, as plain data."""

import os
import platform
import socket
import sys

import torch

from msdtool.nn.device import device_name
from msdtool.ops.engines import implementation_for
from msdtool.runs.versions import versions


def environment(device: torch.device, num_processes: int = 1) -> dict[str, object]:
    """Return the content of environment.json; host, threads and device are of the first process."""
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
