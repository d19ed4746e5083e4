"""Numbers that stand in a kernel and in the module that launches it are the same."""

import re
from types import ModuleType

import pytest

from msdtool.ops.cuda import back, convolution, fragments, front, inner, taps
from msdtool.ops.cuda.sources import Source
from msdtool.ops.semifield import gpu
from tests.kernels import nvrtc

MODULES = {
    "convolution": (convolution, {"THREADS"}),
    "back": (back, {"THREADS", "WIDTH", "CHANNELS"}),
    "front": (front, {"OUTPUTS", "WIDTH", "ROWS", "THREADS", "TAP_ROWS", "PITCH"}),
    "pack": (fragments, {"OUTPUTS", "WIDTH", "THREADS", "TAPS", "TILE_PAIRS"}),
    "inner": (inner, {"ROWS", "WARPS", "MAX_PAIRS"}),
    "semifield": (gpu, {"THREADS"}),
    "taps": (taps, {"ROWS", "WARPS"}),
}


def constants_of(text: str) -> dict[str, int]:
    """Whole numbers that a source names; without those that it chooses by `?`."""
    text = re.sub(r"//.*", "", text)
    text = re.sub(r"^#define (\w+) (\d+)$", r"const int \1 = \2;", text, flags=re.MULTILINE)
    found: dict[str, int] = {}
    for declared in re.findall(r"^const int (.+?);", text, re.MULTILINE):
        for part in declared.split(", "):
            name, _, value = part.partition(" = ")
            known = all(word in found for word in re.findall(r"[A-Za-z_]\w*", value))
            if known and "?" not in value:
                found[name] = eval(value.replace("/", "//"), {}, found)
    return found


def test_constants_are_read_from_a_source() -> None:
    text = (
        "const int A = 8, B = A / 3 * 2;  // of C = 3\n#define D 7\nconst int E = D == 7 ? 1 : 0;\n"
    )
    assert constants_of(text) == {"A": 8, "B": 4, "D": 7}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_and_its_kernel_have_the_same_numbers(name: str) -> None:
    module, compared = MODULES[name]
    in_kernel, in_python = constants_of(Source(name).text()), integers_of(module)
    assert in_kernel.keys() & in_python.keys() == compared
    assert {key: in_python[key] for key in compared} == {key: in_kernel[key] for key in compared}


def integers_of(module: ModuleType) -> dict[str, int]:
    return {
        key: value for key, value in vars(module).items() if key.isupper() and type(value) is int
    }


def test_the_shared_memory_of_a_kernel_is_what_its_module_plans_with() -> None:
    for source in front.SOURCES:
        taken = nvrtc.read_table()["kernels"][str(source)]["front_forward"]
        assert {shared_bytes for _, _, shared_bytes in taken.values()} == {front.OUTPUTS_BYTES}
