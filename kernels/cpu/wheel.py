"""Build hook of hatchling: wheels of a platform carry the compiled engine.

With MSDTOOL_PREBUILT=1, ``python -m build --wheel`` compiles the C++ library for the levels of the
processor's architecture and puts it into the wheel, which is then one of this platform. Without it
the wheel is pure and the library is compiled on first use.
"""

import os
import platform
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LEVELS = {"x86_64": ("x86-64-v3", "x86-64-v4"), "aarch64": ("armv8-a",)}
"""What -march is called with; `msdtool.ops.cpu.prebuilt` chooses among them."""
REALS = ("float", "double")
FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-pthread")
STATIC = ("-static-libstdc++", "-static-libgcc")  # whatever C++ library the user's system has
SOURCE = Path(__file__).with_name("msd_block.cpp")


class PlatformWheel(BuildHookInterface):  # type: ignore[type-arg]
    """Adds msdtool/share/prebuilt/block-REAL-LEVEL.so."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the library, if that is wanted, and tell hatchling of it."""
        if version == "editable" or os.environ.get("MSDTOOL_PREBUILT", "0") == "0":
            return
        self.folder = tempfile.TemporaryDirectory()
        for level in LEVELS[platform.machine()]:
            for real in REALS:
                library = Path(self.folder.name) / f"block-{real}-{level}.so"
                compiler = os.environ.get("CXX", "c++").split()
                options = (*FLAGS, f"-march={level}", f"-DREAL={real}", *STATIC)
                subprocess.run([*compiler, *options, str(SOURCE), "-o", str(library)], check=True)
                build_data["force_include"][str(library)] = f"msdtool/share/prebuilt/{library.name}"
        build_data["pure_python"] = False
        system = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{system}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled."""
        if build_data["pure_python"] is False:
            self.folder.cleanup()
