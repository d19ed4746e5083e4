"""Every specialisation compiles without a warning and takes what the table says."""

import pytest

from msdtool.ops.sources import Source
from tests.kernels import nvrtc
from tests.kernels.sources import SOURCES

if nvrtc.MISSING:
    pytest.skip(nvrtc.MISSING, allow_module_level=True)

REWRITE = "after a change that means it: python -m tests.kernels.nvrtc"


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_a_source_compiles_and_takes_what_the_table_says(source: Source) -> None:
    table = nvrtc.read_table()
    rows = nvrtc.rows_of(source)
    assert rows, "no kernels"
    if table["nvrtc"] != nvrtc.version():
        pytest.skip(f"compiled; figures are those of NVRTC {table['nvrtc']}")
    assert rows == table["kernels"].get(str(source)), REWRITE


def test_the_table_has_no_other_sources() -> None:
    assert set(nvrtc.read_table()["kernels"]) == set(map(str, SOURCES)), REWRITE
