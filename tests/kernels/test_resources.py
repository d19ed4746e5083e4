"""Every specialisation compiles without a warning and takes what the table says."""

from pathlib import Path

import pytest

from msdtool.ops.cuda import sources
from msdtool.ops.cuda.sources import Source
from tests.kernels import nvrtc
from tests.kernels.sources import SOURCES

if nvrtc.MISSING:
    pytest.skip(nvrtc.MISSING, allow_module_level=True)

REWRITE = "after a change that means it: python -m tests.kernels.nvrtc"
# For another version of the compiler than the table's, 13.5: 13.0 takes up to 30 registers more and
# spills no more.
MORE_REGISTERS, MORE_SPILLED_BYTES = 40, 64


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_a_source_compiles_and_takes_what_the_table_says(source: Source) -> None:
    table = nvrtc.read_table()
    tested = nvrtc.tested(source)
    rows = nvrtc.rows_of(source, tested)
    assert rows, "no kernels"
    expected = {
        name: {f"sm_{number}": row[f"sm_{number}"] for number in tested}
        for name, row in table["kernels"].get(str(source), {}).items()
    }
    if table["nvrtc"] == nvrtc.version():
        assert rows == expected, REWRITE
        return
    # Each CUDA build of torch brings its own version, and every version has its own figures.
    assert rows.keys() == expected.keys()
    for name, by_architecture in rows.items():
        for architecture, (registers, spilled_bytes, shared_bytes) in by_architecture.items():
            usual = expected[name][architecture]
            place = f"{name} for {architecture}; the table is that of NVRTC {table['nvrtc']}"
            assert registers <= usual[0] + MORE_REGISTERS, place
            assert spilled_bytes <= usual[1] + MORE_SPILLED_BYTES, place
            assert shared_bytes == usual[2], place


def test_the_table_has_no_other_sources() -> None:
    assert set(nvrtc.read_table()["kernels"]) == set(map(str, SOURCES)), REWRITE


def test_a_warning_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tested.cu").write_text(
        'extern "C" __global__ void tested(int* x) { int unused; x[0] = 1; }\n'
    )
    monkeypatch.setattr(sources, "resource_folder", lambda name: tmp_path)
    with pytest.raises(AssertionError, match='"unused" was declared but never referenced'):
        nvrtc.compile_source(Source("tested"), 90)
