"""The texts of CUDA kernels: files of ``kernels/``, specialised by ``#define`` lines.

The headers that a file includes are inlined, so that the text is complete: CuPy's cache on disk is
keyed by the text and does not see the contents of headers.
"""

import re
from dataclasses import dataclass

import torch

from msdtool.errors import KernelError
from msdtool.file_errors import cannot_read
from msdtool.resources import resource_folder

STORAGES = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}
_INCLUDE = re.compile(r'^[ \t]*#include[ \t]+"([^"]+)"[ \t]*$', re.MULTILINE)


@dataclass(frozen=True)
class Source:
    """A file of ``kernels/`` and the ``#define`` lines that specialise it, in order."""

    name: str
    defines: tuple[tuple[str, str | int], ...] = ()

    def text(self) -> str:
        """The text that is compiled.

        Raises:
            KernelError: a file is missing, as in a damaged installation.
        """
        defines = "".join(f"#define {name} {value}\n" for name, value in self.defines)
        return defines + _inlined(f"{self.name}.cu", _read(f"{self.name}.cu"))

    def __str__(self) -> str:
        return " ".join([f"{self.name}.cu", *(f"{name}={value}" for name, value in self.defines)])


def source_for(name: str, storage: torch.dtype, **defines: str | int) -> Source:
    """The source ``name`` for tensors of dtype ``storage``, specialised by further ``defines``."""
    return Source(name, (("STORAGE", STORAGES[storage]), *defines.items()))


def _read(file: str) -> str:
    path = resource_folder("kernels") / file
    with cannot_read(path, KernelError, advice="reinstall msdtool"):
        return path.read_text(encoding="utf-8")


def _inlined(file: str, text: str) -> str:
    """A file's text with its headers inlined, each once, under their own names and line numbers."""
    seen = {file}

    def expand(name: str, text: str) -> str:
        def header(found: re.Match[str]) -> str:
            if found[1] in seen:
                return ""
            seen.add(found[1])
            line = text.count("\n", 0, found.start()) + 2
            return f'{expand(found[1], _read(found[1]))}#line {line} "{name}"'

        return f'#line 1 "{name}"\n{_INCLUDE.sub(header, text)}'

    return expand(file, text)
