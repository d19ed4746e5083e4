"""The engines that compute an MSD block, and which of them serves a tensor."""

import torch
from torch import Tensor

from msdtool.ops.cpu import native_build
from msdtool.ops.cpu.blocked import BlockedEngine
from msdtool.ops.cpu.native import CompiledEngine
from msdtool.ops.cuda import launcher
from msdtool.ops.cuda.front import FrontEngine
from msdtool.ops.cuda.per_layer import PerLayerEngine
from msdtool.ops.engine import BlockShape, Engine

ENGINES: dict[str, type[Engine]] = {
    "compiled": CompiledEngine,
    "torch": BlockedEngine,
    "cuda": FrontEngine,
    "cuda-plain": PerLayerEngine,
}
REFERENCE = "reference"
"""`msdtool.ops.reference`, which is not an engine."""

KERNELS = tuple(name for name, engine in ENGINES.items() if issubclass(engine, PerLayerEngine))
"""The engines that launch CUDA kernels."""

IMPLEMENTATIONS = ("auto", *ENGINES, REFERENCE)
"""The values of ``impl``."""


def implementation_for(device: torch.device, dtype: torch.dtype) -> str:
    """Name of the engine that impl="auto" chooses for a device: its fastest one."""
    if launcher.preferred(device):
        return "cuda"
    compiled = device.type == "cpu" and native_build.available(dtype_for("compiled", dtype))
    return "compiled" if compiled else "torch"


def is_fallback(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a device has to do without the engine that is made for it."""
    return implementation_for(device, dtype) == "torch"


def slow_because(device: torch.device) -> str | None:
    """Why float32 on a device is computed without the engine made for it; None: it is not."""
    if not is_fallback(device, torch.float32):
        return None
    if device.type == "cpu":
        return native_build.problem(torch.float32)
    return launcher.obstacle(device)


def engine_type(impl: str, device: torch.device) -> type[Engine]:
    """The engine of a name.

    Raises:
        KernelError: it launches kernels, which cannot run on the device.
    """
    if impl in KERNELS:
        launcher.require(impl, device)
    return ENGINES[impl]


def new_engine(shape: BlockShape, like: Tensor) -> Engine:
    """The engine that impl="auto" chooses for tensors like this one."""
    return ENGINES[implementation_for(like.device, like.dtype)](shape, like)


def dtype_for(impl: str, dtype: torch.dtype) -> torch.dtype:
    """The dtype that an implementation is given: kernels take any, others no 16-bit types."""
    return dtype if impl in KERNELS else torch.promote_types(dtype, torch.float32)
