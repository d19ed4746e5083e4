"""Whether CuPy and NVRTC are installed and fit torch and the GPU; otherwise what to do."""

import os
from pathlib import Path

import torch


def install_advice() -> str:
    """How to get CuPy and NVRTC for the CUDA version that torch was built for."""
    version = torch.version.cuda
    return f"pip install 'msdtool[cuda{version.split('.')[0] if version else 13}]'"


def cupy_problem() -> str | None:
    """Why CuPy cannot be imported, or None if it can."""
    try:
        import cupy  # noqa: F401
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
            return f"CuPy is not installed: {install_advice()}"
        return f"CuPy cannot be imported: {error}"
    except OSError as error:
        return f"CuPy cannot use its cache folder ({error}); set CUPY_CACHE_DIR to a writable one"
    return None


def nvrtc_problem() -> str | None:
    """Why NVRTC cannot be used, or None if it can; CuPy must be installed."""
    import cupy

    try:
        cupy.cuda.nvrtc.getVersion()
    except Exception as error:  # CuPy raises several types where the library is missing
        return f"NVRTC, CUDA's compiler, is missing ({error}): {install_advice()}"
    return None


def versions() -> dict[str, str]:
    """Versions of CuPy and NVRTC, both installed, and the folder of compiled kernels."""
    import cupy

    return {
        "CuPy": str(cupy.__version__),
        "NVRTC": ".".join(map(str, cupy.cuda.nvrtc.getVersion())),
        "cache": os.environ.get("CUPY_CACHE_DIR", str(Path.home() / ".cupy" / "kernel_cache")),
    }


def find_obstacle(device: torch.device) -> str | None:
    """Why CuPy cannot compile and launch for a CUDA device, or None if it can."""
    if torch.version.cuda is None:
        return "this build of torch has no CUDA"
    problem = cupy_problem() or nvrtc_problem()
    if problem is not None:
        return problem
    import cupy

    try:
        with cupy.cuda.Device(device.index):
            cupy.cuda.runtime.free(0)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"CuPy cannot use {device}: {error}; the CuPy that fits torch: {install_advice()}"
    return None
