"""The text of kernels, and when it is compiled."""

import pytest

from msdtool.errors import KernelError
from msdtool.ops.cuda import sources
from msdtool.ops.cuda.sources import Source
from tests.kernels import nvrtc
from tests.ops.cuda.cupy_alone import compile_on_disk

needs_nvrtc = pytest.mark.skipif(nvrtc.MISSING is not None, reason=str(nvrtc.MISSING))


def test_the_text_is_complete_and_names_its_files(folder):
    assert Source("one", (("SIZE", 1), ("NAME", "float"))).text().splitlines() == [
        "#define SIZE 1",
        "#define NAME float",
        '#line 1 "one.cu"',
        "// one",
        '#line 1 "a.cuh"',
        '#line 1 "b.cuh"',
        "#define ONE (SIZE)",
        '#line 2 "a.cuh"',
        "#define TWO (ONE + ONE)",
        '#line 3 "one.cu"',
        "",
        'extern "C" __global__ void twice(float* x) { x[0] = TWO * x[0]; }',
    ]


def test_a_missing_file_is_named(folder):
    (folder / "b.cuh").unlink()
    with pytest.raises(KernelError, match=r"b\.cuh: no such file; reinstall msdtool"):
        Source("one").text()


@needs_nvrtc
def test_a_warm_start_compiles_nothing_and_an_edited_header_is_seen(folder, tmp_path):
    source = Source("one", (("SIZE", 1),))
    cache = tmp_path / "cache"

    def compile_again() -> tuple[int, bytes]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sources, "resource_folder", lambda name: folder)
            return compile_on_disk(source, cache, patch)

    first_calls, first = compile_again()
    assert first_calls == 1
    assert compile_again() == (0, first)
    (folder / "b.cuh").write_text("#define ONE (SIZE + 2)\n")
    edited_calls, edited = compile_again()
    assert edited_calls == 1
    assert edited != first
