"""The machine code of kernels, disassembled by NVIDIA's nvdisasm, and its loops.

A kernel may be right and slow because the compiler needs many instructions to find an address, or
keeps variables in memory; here that can be counted, without a GPU.
"""

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from msdtool.atomic import atomic_path
from msdtool.ops.cuda.sources import Source
from tests.kernels import nvrtc


def _program() -> str | None:
    """nvdisasm of the package nvidia-cuda-nvdisasm, or of a toolkit."""
    found = importlib.util.find_spec("nvidia")
    folders = found.submodule_search_locations if found is not None else None
    for folder in folders or ():
        for path in Path(folder).glob("*/bin/nvdisasm"):
            return str(path)
    return shutil.which("nvdisasm")


PROGRAM = _program()
MISSING = nvrtc.MISSING or (
    None if PROGRAM else "no nvdisasm to read machine code: pip install nvidia-cuda-nvdisasm"
)


@dataclass(frozen=True)
class Code:
    """Instructions of a kernel in order, and at which of them each label stands."""

    instructions: list[str]
    labels: dict[str, int]

    def operation(self, index: int) -> str:
        """Without the predicate in front and the variant behind."""
        words = self.instructions[index].split()
        return words[words[0].startswith("@")].split(".")[0]

    def target(self, index: int) -> int | None:
        """The instruction that a branch leads to; None for others."""
        found = re.search(r"\bBRA\b.*?(\.L_\w+)", self.instructions[index])
        return self.labels[found[1]] if found else None

    def loops(self) -> list[tuple[int, int]]:
        """First and last instruction of each loop."""
        targets = [(self.target(index), index) for index in range(len(self.instructions))]
        return sorted((to, index) for to, index in targets if to is not None and to < index)

    def count(self, loop: tuple[int, int], operation: str) -> int:
        """How often an operation stands in a loop."""
        return sum(self.operation(index) == operation for index in range(loop[0], loop[1] + 1))

    def fewest(self, loop: tuple[int, int], operation: str) -> tuple[int, int]:
        """How often one turn of a loop runs an operation at most, and the fewest instructions of
        such a turn: of an inner loop, that of pixels that are not at the border."""
        first, last = loop
        best: dict[int, tuple[int, int]] = {first: (0, 0)}
        for index in range(first, last + 1):
            if index not in best:
                continue
            count, length = best[index]
            here = (count + (self.operation(index) == operation), length + 1)
            if index == last:
                return here
            for following in self._following(index):
                known = best.get(following)
                if known is None or (-here[0], here[1]) < (-known[0], known[1]):
                    best[following] = here
        raise AssertionError("the end of the loop cannot be reached")

    def shortest(self, loop: tuple[int, int], operation: str, count: int) -> int:
        """The fewest instructions of a turn of a loop that runs an operation just so often."""
        first, last = loop
        best: dict[tuple[int, int], int] = {(first, 0): 0}
        for index in range(first, last + 1):
            here = self.operation(index) == operation
            for known in range(count + 1 - here):
                if (index, known) not in best:
                    continue
                length = best[index, known] + 1
                for following in [*self._following(index), *([last + 1] if index == last else [])]:
                    place = following, known + here
                    best[place] = min(length, best.get(place, length))
        return best[last + 1, count]

    def _following(self, index: int) -> list[int]:
        instruction, to = self.instructions[index], self.target(index)
        ends = not instruction.startswith("@") and re.match(r"BRA|EXIT", instruction)
        forward = [to] if to is not None and to > index else []
        return forward if ends else [index + 1, *forward]


def disassemble(source: Source, architecture: int) -> dict[str, Code]:
    """The code of each kernel of a source."""
    path = nvrtc.cached(source, f"sm_{architecture}", "sass")
    if not path.exists():
        with atomic_path(path) as temporary:
            temporary.write_text(_disassembled(source, architecture), encoding="utf-8")
    return _parse(path.read_text(encoding="utf-8"))


def _disassembled(source: Source, architecture: int) -> str:
    _, code = nvrtc.compiled(source, architecture)
    binary = nvrtc.cached(source, f"sm_{architecture}", "cubin")
    with atomic_path(binary) as temporary:
        temporary.write_bytes(code)
    assert PROGRAM is not None
    return subprocess.run(
        [PROGRAM, "-c", str(binary)], capture_output=True, text=True, check=True
    ).stdout


def _parse(text: str) -> dict[str, Code]:
    found: dict[str, Code] = {}
    current = Code([], {})
    for line in text.splitlines():
        if section := re.match(r"\s*\.section\s+\.text\.(\w+)", line):
            current = found[section[1]] = Code([], {})
        elif label := re.match(r"(\.L_\w+):", line.strip()):
            current.labels[label[1]] = len(current.instructions)
        elif instruction := re.match(r"\s*/\*[0-9a-f]+\*/\s+(.*?)\s*;", line):
            current.instructions.append(instruction[1])
    return found


def spreading(code: Code) -> list[tuple[int, int]]:
    """The loops over outputs that write the nine taps of a pixel, or three times three at the
    border."""
    return [
        loop
        for loop in code.loops()
        if code.count(loop, "STS") == 12 and code.count(loop, "HMMA") == 0
    ]
