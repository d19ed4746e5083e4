"""A folder of kernels."""

from pathlib import Path

import pytest

from msdtool.ops.cuda import sources


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of kernels: one.cu includes a.cuh and b.cuh, and a.cuh includes b.cuh."""
    (tmp_path / "one.cu").write_text(
        '// one\n#include "a.cuh"\n#include "b.cuh"\n'
        'extern "C" __global__ void twice(float* x) { x[0] = TWO * x[0]; }\n'
    )
    (tmp_path / "a.cuh").write_text('#include "b.cuh"\n#define TWO (ONE + ONE)\n')
    (tmp_path / "b.cuh").write_text("#define ONE (SIZE)\n")
    monkeypatch.setattr(sources, "resource_folder", lambda name: tmp_path)
    return tmp_path
