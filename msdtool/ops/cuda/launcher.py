"""CUDA kernels: compiled once per device, launched on torch's current stream.

A process that finds all its kernels in CuPy's cache on disk compiles nothing.

CUDA is not initialised before the first launch, so this module can be imported anywhere, and
processes forked before that can use the GPU. All kernels are launched through `LAUNCHERS`: tests
put a launcher there that runs them on the CPU.
"""

import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from msdtool.errors import KernelError
from msdtool.ops.checks import address_of
from msdtool.ops.cuda.installation import find_obstacle
from msdtool.ops.cuda.sources import Source

Constants = tuple[np.int64, ...]
Argument = Tensor | int | float | None | np.int64

# CuPy adds -ftz=true and the architecture. Its default for the language is stated here so that a
# change of it does not change what we compile.
OPTIONS = ("-std=c++17",)
DEFAULT_SHARED_BYTES = 48 * 1024  # more must be requested


class Launcher(Protocol):
    """Launches kernels on the devices it serves."""

    def obstacle(self, device: torch.device) -> str | None:
        """Why kernels cannot run on the device, or None if they can."""

    def max_shared_bytes(self, device: torch.device) -> int:
        """Shared memory that a block can request, on a device without obstacle."""

    def launch(
        self,
        source: Source,
        function: str,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        arguments: Sequence[Argument],
        shared_bytes: int,
    ) -> None:
        """Start a kernel; the arguments hold at least one tensor."""


class CupyLauncher:
    """Compiles and launches through CuPy, on the device of the tensors and torch's stream there."""

    def __init__(self) -> None:
        self._obstacles: dict[torch.device, str | None] = {}
        self._modules: dict[tuple[int, Source], Any] = {}
        self._functions: dict[tuple[int, Source, str], Any] = {}
        self._streams: dict[tuple[int, int], Any] = {}
        self._shared_bytes: dict[torch.device, int] = {}
        self._process: int | None = None

    def obstacle(self, device: torch.device) -> str | None:
        if device.type != "cuda":
            return f"CUDA kernels need tensors on a GPU; these are on {device}"
        if self._process not in (None, os.getpid()):
            return (
                "this process was forked from one that had used the GPU, which CUDA does not "
                "allow; start processes with multiprocessing's 'spawn' method"
            )
        if device not in self._obstacles:
            self._obstacles[device] = find_obstacle(device)
            self._process = os.getpid()
        return self._obstacles[device]

    def max_shared_bytes(self, device: torch.device) -> int:
        import cupy

        if device not in self._shared_bytes:
            runtime = cupy.cuda.runtime
            self._shared_bytes[device] = runtime.deviceGetAttribute(
                runtime.cudaDevAttrMaxSharedMemoryPerBlockOptin, device.index
            )
        return self._shared_bytes[device]

    def launch(
        self,
        source: Source,
        function: str,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        arguments: Sequence[Argument],
        shared_bytes: int,
    ) -> None:
        import cupy

        device = next(value.device for value in arguments if isinstance(value, Tensor))
        obstacle = self.obstacle(device)
        if obstacle is not None:
            raise KernelError(obstacle)
        index = device.index
        with torch.cuda.device(index), cupy.cuda.Device(index):
            kernel = self._function(index, source, function, shared_bytes)
            try:
                with self._stream(index):
                    kernel(grid, block, plain_arguments(arguments), shared_mem=shared_bytes)
            except (cupy.cuda.driver.CUDADriverError, cupy.cuda.runtime.CUDARuntimeError) as error:
                raise KernelError(
                    f"the kernel {function} of {source} could not be launched on {device}, grid "
                    f"{grid}, block {block}, {shared_bytes} bytes of shared memory: {error}"
                ) from error

    def _function(self, index: int, source: Source, name: str, shared_bytes: int) -> Any:
        key = (index, source, name)
        if key not in self._functions:
            if torch.cuda.is_current_stream_capturing():
                raise KernelError(
                    f"{name} of {source} is not loaded yet, which a CUDA graph cannot capture; "
                    "run the same step once before the capture"
                )
            self._functions[key] = _loaded(self._module(index, source), source, name)
        function = self._functions[key]
        # In this order: asking the driver would take time in every launch.
        if (
            shared_bytes > DEFAULT_SHARED_BYTES
            and shared_bytes > function.max_dynamic_shared_size_bytes
        ):
            function.max_dynamic_shared_size_bytes = shared_bytes
        return function

    def _module(self, index: int, source: Source) -> Any:
        import cupy

        if (index, source) not in self._modules:
            self._modules[index, source] = cupy.RawModule(
                code=source.text(), options=OPTIONS, backend="nvrtc"
            )
        return self._modules[index, source]

    def _stream(self, index: int) -> Any:
        """Torch's current stream as a stream of CuPy."""
        import cupy

        pointer = torch.cuda.current_stream(index).cuda_stream
        if (index, pointer) not in self._streams:
            self._streams[index, pointer] = cupy.cuda.Stream.from_external(_Stream(pointer))
        return self._streams[index, pointer]


class _Stream:
    """A CUDA stream by its handle; https://nvidia.github.io/cuda-python, "CUDA stream protocol"."""

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.pointer


def _loaded(module: Any, source: Source, name: str) -> Any:
    """A function of the module, which is compiled now unless the cache on disk has it."""
    import cupy

    try:
        return module.get_function(name)
    except cupy.cuda.compiler.CompileException as error:
        raise KernelError(compile_message(source, error.get_message())) from error
    except (cupy.cuda.driver.CUDADriverError, cupy.cuda.runtime.CUDARuntimeError) as error:
        raise KernelError(f"{name} of {source} could not be loaded: {error}") from error


def compile_message(source: Source, log: str) -> str:
    """The message for a source that does not compile."""
    return (
        f"the CUDA compiler refused {source}. Please report this with the output of `msdtool "
        f"doctor`; impl='torch' computes the same without this kernel. Its log:\n{log.strip()}"
    )


def constants(*values: int) -> Constants:
    """Integers as arguments, converted once for launches that are repeated."""
    return tuple(map(np.int64, values))


def plain_arguments(arguments: Sequence[Argument]) -> tuple[Any, ...]:
    """Arguments as CuPy passes them on: pointers and `long long` of 8 bytes, `double`."""
    plain: list[Any] = []
    for value in arguments:
        if isinstance(value, np.int64):  # most are, and launching a kernel should be quick
            plain.append(value)
        elif isinstance(value, int):
            plain.append(np.int64(value))
        elif isinstance(value, Tensor):
            plain.append(np.uint64(address_of(value)))
        elif value is None:
            plain.append(np.uint64(0))
        else:
            plain.append(np.float64(value))
    return tuple(plain)


LAUNCHERS: dict[str, Launcher] = {"cuda": CupyLauncher()}


def obstacle(device: torch.device) -> str | None:
    """Why kernels cannot run on tensors of this device, or None if they can."""
    return _launcher(device).obstacle(device)


def max_shared_bytes(device: torch.device) -> int:
    """Shared memory that a block of threads can request."""
    return _launcher(device).max_shared_bytes(device)


def _launcher(device: torch.device) -> Launcher:
    return LAUNCHERS.get(device.type, LAUNCHERS["cuda"])


def preferred(device: torch.device) -> bool:
    """Whether impl="auto" chooses kernels: on a GPU where they can run."""
    return device.type == "cuda" and obstacle(device) is None


def require(impl: str, device: torch.device) -> None:
    """Raise KernelError if the kernels that ``impl`` names cannot run on the device."""
    found = obstacle(device)
    if found is not None:
        raise KernelError(f"impl is {impl!r}, but {found}; use impl='auto' to fall back")


def launch(
    source: Source,
    function: str,
    grid: tuple[int, ...],
    block: tuple[int, ...],
    *arguments: Argument,
    shared_bytes: int = 0,
) -> None:
    """Start a kernel on the device of its tensors, in torch's current stream there.

    Args:
        source: the text that contains it.
        function: its name in the text, declared ``extern "C"``.
        grid: blocks along x, y, z; nothing is launched if there are none.
        block: threads along x, y, z.
        arguments: a tensor is passed as the address of its first element (its strides are the
            caller's to pass), None as a null pointer, an int as ``long long`` (quicker if it is
            one of `constants`), a float as ``double``. At least one is a tensor.
        shared_bytes: dynamic shared memory of each block.

    Raises:
        KernelError: the kernel cannot be compiled or launched; carries the compiler's log.
    """
    if 0 in grid:
        return
    device = next(value.device for value in arguments if isinstance(value, Tensor))
    _launcher(device).launch(source, function, grid, block, arguments, shared_bytes)
