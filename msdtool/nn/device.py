"""Which device networks run on."""

import os

import torch

from msdtool.errors import ConfigError


def choose_device(name: str = "auto") -> torch.device:
    """Return the device that "auto" (the GPU if there is one), "cpu" or "cuda" means here.

    Raises:
        ConfigError: it is none of these, or a GPU is asked for and torch finds none.
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


def device_name(device: torch.device) -> str:
    """The device as people know it."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)"


def use_deterministic(deterministic: bool) -> None:
    """Have torch refuse, or not, operations that may give different bits on each run."""
    if deterministic:
        # Without it torch refuses every product of matrices on a GPU. Read at the first of them.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
