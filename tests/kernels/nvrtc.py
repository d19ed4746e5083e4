"""Compiles kernels with CUDA's own compiler, which needs no GPU, and reads what they take.

`python -m tests.kernels.nvrtc` rewrites the table of registers, spills and shared memory.
`MSDTOOL_ARCHITECTURES=all` compares it for all architectures.
"""

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from msdtool.atomic import atomic_path
from msdtool.ops.cuda.launcher import OPTIONS
from msdtool.ops.cuda.sources import Source

ARCHITECTURES = (75, 80, 90, 100)
# Also for float32 of what every step launches: GPUs with less shared memory, other schedulers.
MORE_ARCHITECTURES = (89, 120)
OF_EVERY_STEP = ("pack", "front", "inner", "back", "taps")
# One of either side of what the sources ask: 80 is the first with tensor cores for all types.
FEW = (75, 90)
ALL = os.environ.get("MSDTOOL_ARCHITECTURES") == "all"
TABLE = Path(__file__).parent / "resources.json"
MISSING = (
    None
    if importlib.util.find_spec("cupy") and importlib.util.find_spec("cupy.cuda")
    else "no CuPy, whose NVRTC compiles CUDA kernels: pip install cupy-cuda13x nvidia-cuda-nvrtc"
)
# Two of them CuPy 14 adds on its own.
_OPTIONS = (
    *OPTIONS, "-ftz=true", "--device-as-default-execution-space", "--ptxas-options=-v",
)  # fmt: skip
CACHE = Path(__file__).parents[2] / ".pytest_cache" / "nvrtc"


@dataclass(frozen=True)
class Resources:
    """What the compiler gave a kernel: per thread, but shared memory per block."""

    registers: int
    spilled_bytes: int
    shared_bytes: int


def architectures(source: Source) -> tuple[int, ...]:
    """Those of the table."""
    more = source.name in OF_EVERY_STEP and ("STORAGE", "float32") in source.defines
    return ARCHITECTURES + (MORE_ARCHITECTURES if more else ())


def compile_source(source: Source, architecture: int) -> dict[str, Resources]:
    """Compile to machine code without a warning; what each kernel of the source takes."""
    log, _ = compiled(source, architecture)
    return _parse(log)


def compiled(source: Source, architecture: int) -> tuple[str, bytes]:
    """The compiler's log and the machine code."""
    from cupy.cuda import nvrtc

    program = nvrtc.createProgram(source.text(), f"{source.name}.cu", (), ())
    try:
        nvrtc.compileProgram(program, (*_OPTIONS, f"--gpu-architecture=sm_{architecture}"))
    except nvrtc.NVRTCError:
        log = nvrtc.getProgramLog(program)
        raise AssertionError(f"{source} for sm_{architecture}:\n{log}") from None
    log = nvrtc.getProgramLog(program).rstrip("\0")
    code = nvrtc.getCUBIN(program) + b"\0"  # CuPy leaves out the last byte
    nvrtc.destroyProgram(program)
    return log, code


_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")


def _parse(log: str) -> dict[str, Resources]:
    found: dict[str, Resources] = {}
    name, spilled = "", 0
    for line in log.splitlines():
        # Not -Werror: NVRTC 13.0 does not know it.
        assert line.startswith(("ptxas info", "ptxas         .")), f"a warning: {log}"
        if entry := _ENTRY.search(line):
            name = entry[1]
        elif spills := _SPILLS.search(line):
            spilled = int(spills[1]) + int(spills[2])
        elif used := _USED.search(line):
            found[name] = Resources(int(used[1]), spilled, int(used[2] or 0))
    return found


def version() -> str:
    """NVRTC's version: another one gives other figures."""
    from cupy.cuda import nvrtc

    return ".".join(map(str, nvrtc.getVersion()))


def read_table() -> dict[str, Any]:
    """The table: {"nvrtc": version, "kernels": {source: {kernel: {"sm_75": [...]}}}}."""
    return json.loads(TABLE.read_text(encoding="utf-8"))


def tested(source: Source) -> tuple[int, ...]:
    """Those that a source is compiled for in the tests."""
    return architectures(source) if ALL else FEW


def rows_of(source: Source, architectures: Sequence[int]) -> dict[str, dict[str, list[int]]]:
    """A source's entry of the table: kernel, architecture, then the fields of `Resources`.

    What was compiled before, text and compiler the same, is read from pytest's cache folder.
    """
    path = cached(source, str(architectures), "json")
    if not path.exists():
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(_compile_for(source, architectures)), encoding="utf-8")
    rows: dict[str, dict[str, list[int]]] = json.loads(path.read_text(encoding="utf-8"))
    return rows


def cached(source: Source, variant: str, suffix: str) -> Path:
    """The place in pytest's cache folder of what this compiler makes of a source."""
    key = hashlib.sha256("\0".join((source.text(), version(), variant, *_OPTIONS)).encode())
    return CACHE / f"{source.name}-{key.hexdigest()[:24]}.{suffix}"


def _compile_for(source: Source, architectures: Sequence[int]) -> dict[str, dict[str, list[int]]]:
    rows: dict[str, dict[str, list[int]]] = {}
    for architecture in architectures:
        for name, resources in compile_source(source, architecture).items():
            rows.setdefault(name, {})[f"sm_{architecture}"] = list(astuple(resources))
    return rows


def write_table() -> None:
    """Compile everything and write the table."""
    from tests.kernels.sources import SOURCES

    lines = []
    for source in sorted(SOURCES, key=str):
        kernels = ",\n".join(
            f"      {json.dumps(name)}: {json.dumps(row)}"
            for name, row in rows_of(source, architectures(source)).items()
        )
        lines.append(f"    {json.dumps(str(source))}: {{\n{kernels}\n    }}")
    body = ",\n".join(lines)
    TABLE.write_text(
        f'{{\n  "nvrtc": {json.dumps(version())},\n  "kernels": {{\n{body}\n  }}\n}}\n',
        encoding="utf-8",
    )


if __name__ == "__main__":
    write_table()
