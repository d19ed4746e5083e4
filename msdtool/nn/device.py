"""The device that networks run on."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from msdtool.errors import ConfigError
from msdtool.ops.engines import implementation_for, slow_because

log = logging.getLogger(__name__)


def choose_device(name: str = "auto") -> torch.device:
    """Return the device for "auto" (the GPU if there is one), "cpu" or "cuda".

    Raises:
        ConfigError: another name, or "cuda" where torch finds no GPU.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device: got {name!r}; allowed: auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device: got 'cuda', but torch finds no GPU on this machine; use auto or cpu, "
            "or install the torch build for your GPU"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def warn_if_slow(device: torch.device) -> None:
    """Tell why networks are computed without the engine that is made for the device."""
    engine = implementation_for(device, torch.float32)
    log.debug(f"networks are computed on {device_name(device)} by the engine {engine!r}")
    reason = slow_because(device)
    if reason is not None:
        log.warning(
            f"the network is computed by torch's matrix products, which is slower: {reason}"
        )


def devices_for(device: torch.device) -> list[int]:
    """Return the GPUs among which `torch.nn.DataParallel` can divide a batch, ``device`` first.

    Empty on a CPU, or if there is one GPU.
    """
    if device.type != "cuda" or torch.cuda.device_count() < 2:
        return []
    first = torch.cuda.current_device() if device.index is None else device.index
    return [first, *(index for index in range(torch.cuda.device_count()) if index != first)]


def device_name(device: torch.device) -> str:
    """Return a readable name of the device."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)"


def use_deterministic(deterministic: bool) -> None:
    """Switch torch's deterministic algorithms on or off; with them, equal runs give equal bits."""
    if deterministic:
        # torch requires it for matrix products on a GPU; cuBLAS reads it at the first of them.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # As torch.use_deterministic_algorithms, which also imports torch.compile's parts, for 2 s.
    torch.set_deterministic_debug_mode("error" if deterministic else "default")


@contextmanager
def matrix_products(*, tf32: bool) -> Iterator[None]:
    """Within the context, matrix products on GPUs round their factors to TF32, or do not."""
    # The old functions for it raise an error in a process that has used the new attribute.
    matmul = torch.backends.cuda.matmul
    is_new = hasattr(matmul, "fp32_precision")  # torch 2.9 and newer
    name = "fp32_precision" if is_new else "allow_tf32"
    before = getattr(matmul, name)
    setattr(matmul, name, ("ieee", "tf32")[tf32] if is_new else tf32)
    try:
        yield
    finally:
        setattr(matmul, name, before)
