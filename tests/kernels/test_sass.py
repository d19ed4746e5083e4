"""What the compiler makes of the kernels of every step: instructions per pixel, none for spills."""

import pytest
import torch

from msdtool.ops.cuda import back, front, inner, taps
from msdtool.ops.cuda.sources import Source, source_for
from tests.kernels import nvrtc, sass

if sass.MISSING:
    pytest.skip(sass.MISSING, allow_module_level=True)

ARCHITECTURE = 90
INNER = source_for("inner", torch.float32, NDIM=2)
TAPS = source_for("taps", torch.float32, NDIM=2)


@pytest.mark.parametrize(
    "source",
    [
        source
        for source in (*inner.SOURCES, *taps.SOURCES)
        if ("STORAGE", "float32") in source.defines
    ],
    ids=str,
)
def test_variables_fit_the_registers_of_two_blocks(source: Source) -> None:
    for kernel, by_architecture in nvrtc.rows_of(source, nvrtc.tested(source)).items():
        for architecture, (registers, spilled, _) in by_architecture.items():
            assert (registers <= 128, spilled) == (True, 0), f"{kernel} for {architecture}"


@pytest.mark.parametrize(("terms", "least"), [(1, 0.4), (3, 0.45)])
def test_the_product_keeps_tensor_cores_busy(terms: int, least: float) -> None:
    """A turn multiplies 32 pixels and 16 channels by 72 taps, in 36 instructions for each term; no
    variable of it is kept in memory."""
    code = sass.disassemble(front.front_source(torch.float32, terms), ARCHITECTURE)["front_forward"]
    turns = [loop for loop in code.loops() if code.count(loop, "HMMA") == 36 * terms]
    assert len(turns) >= 1
    for first, last in turns:
        assert code.count((first, last), "HMMA") >= least * (last - first + 1)
        assert code.count((first, last), "LDL") + code.count((first, last), "STL") == 0


def test_adding_up_the_taps_of_an_output_takes_few_instructions() -> None:
    """Of two rows: the upper and middle taps, then the lower ones; 28 and 18 load, add or store."""
    code = sass.disassemble(front.front_source(torch.float32, 1), ARCHITECTURE)["front_forward"]
    turns = [code.fewest(loop, "FADD") for loop in code.loops() if code.count(loop, "HMMA") == 0]
    lengths = {sums: length for sums, length in turns if sums > 0}
    assert lengths.keys() == {8, 10}
    assert lengths[10] <= 60 and lengths[8] <= 54


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_channels_take_fewer_instructions(dtype: torch.dtype) -> None:
    """A turn multiplies twice as many channels as with float32."""
    code = sass.disassemble(front.front_source(dtype, 1), ARCHITECTURE)["front_forward"]
    lengths = [b - a + 1 for a, b in code.loops() if code.count((a, b), "HMMA") == 36]
    assert lengths and max(lengths) <= 125


@pytest.mark.parametrize("source", back.SOURCES, ids=str)
def test_products_backward_have_registers_enough(source: Source) -> None:
    """128 for two blocks of a multiprocessor; one has all for weights with three terms."""
    for kernel, row in nvrtc.rows_of(source, nvrtc.tested(source)).items():
        alone = kernel == "back_weight" and ("TERMS", 3) in source.defines
        for architecture, (registers, spilled, _) in row.items():
            place = f"{kernel} of {source} for {architecture}"
            assert registers <= (255 if alone else 128), place
            assert spilled <= 8, place  # outside of the loops, see below


@pytest.mark.parametrize(
    ("kernel", "terms", "products", "most"),
    [
        ("back_input", 1, 18, 58),
        ("back_input", 3, 54, 122),
        ("back_weight", 1, 36, 102),
        ("back_weight", 3, 108, 318),
    ],
)
def test_products_backward_take_few_instructions(
    kernel: str, terms: int, products: int, most: int
) -> None:
    """A turn of back_input loads and stores the gradients of 16 channels in 16 pixels, 1 of 6
    instructions, and loads half as many weights as it multiplies; one of back_weight is 32 channels
    in 16 pixels. Idle slots that ptxas puts between products are counted."""
    code = sass.disassemble(back.back_source(torch.float32, terms), ARCHITECTURE)[kernel]
    turns = [
        loop
        for loop in code.loops()
        if code.count(loop, "HMMA") == products and code.count(loop, "STS") == 0
    ]
    assert turns
    assert min(code.fewest(loop, "HMMA")[1] for loop in turns) <= most
    assert all(code.count(loop, "LDL") + code.count(loop, "STL") == 0 for loop in turns)


def test_spreading_an_output_takes_at_most_100_instructions() -> None:
    """In the interior: nine loads, nine stores."""
    for code in sass.disassemble(back.back_source(torch.float32, 1), ARCHITECTURE).values():
        (loop,) = sass.spreading(code)
        assert code.shortest(loop, "LDG", 9) <= 100


def test_the_product_has_registers_enough() -> None:
    """128 for two blocks of a multiprocessor; with three terms, one block has them all."""
    for source in front.SOURCES:
        most = 128 if ("TERMS", 1) in source.defines else 255
        for architecture, row in nvrtc.rows_of(source, nvrtc.tested(source))[
            "front_forward"
        ].items():
            registers, spilled, _ = row
            place = f"{source} for {architecture}"
            assert registers <= most, place
            assert spilled <= 64, place  # outside of the loops, see above


@pytest.mark.parametrize("kernel", ["inner_forward", "inner_backward"])
def test_a_channel_takes_at_most_thirty_instructions_for_a_pixel(kernel: str) -> None:
    """Nine of them multiply; a thread has four pixels."""
    code = sass.disassemble(INNER, ARCHITECTURE)[kernel]
    turns = [code.fewest(loop, "FFMA") for loop in code.loops()]
    of_channels = [length for count, length in turns if count == 9 * inner.ROWS]
    assert of_channels, "no loop over channels"
    assert min(of_channels) <= 30 * inner.ROWS


def test_gathering_a_pixel_takes_at_most_150_instructions() -> None:
    """Nine of them add a tap, three a slice's sum."""
    code = sass.disassemble(TAPS, ARCHITECTURE)["taps_gather"]
    turns = [code.fewest(loop, "FADD") for loop in code.loops()]
    assert max(count for count, _ in turns) == 12
    assert min(length for count, length in turns if count == 12) <= 150


def test_spreading_to_three_taps_takes_at_most_150_instructions() -> None:
    """Those of pixels at the border included, which sum up several gradients."""
    code = sass.disassemble(TAPS, ARCHITECTURE)["taps_spread"]

    def stores(loop: tuple[int, int]) -> int:
        return sum(code.operation(index) == "STG" for index in range(loop[0], loop[1] + 1))

    assert min(last - first for first, last in filter(stores, code.loops())) <= 150


def test_the_fewest_instructions_of_a_turn() -> None:
    """Two ways through a loop of six: with one multiplication each, the shorter one counts."""
    code = sass._parse(
        "\t.section .text.tested\n"
        ".L_0:\n/*00*/ @P0 BRA `(.L_1) ;\n/*10*/ FFMA R0, R1, R2, R0 ;\n/*20*/ NOP ;\n"
        "/*30*/ BRA `(.L_2) ;\n.L_1:\n/*40*/ @!P1 FFMA.FTZ R0, R1, R2, R0 ;\n"
        ".L_2:\n/*50*/ @P2 BRA `(.L_0) ;\n/*60*/ EXIT ;\n"
    )["tested"]
    assert code.loops() == [(0, 5)]
    assert code.fewest((0, 5), "FFMA") == (1, 3)
    assert code.fewest((0, 5), "NOP") == (1, 5)
    assert code.shortest((0, 5), "NOP", 0) == 3
    assert code.shortest((0, 5), "NOP", 1) == 5
