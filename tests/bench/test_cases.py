import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msdtool.bench.cases import (
    Case,
    Problem,
    forward_bytes,
    forward_limit,
    select_cases,
    step_bytes,
    step_limit,
)

CPU = torch.device("cpu")


def count_by_loops(case):
    """Operations per pixel, one multiplication and one addition at a time."""
    count = 0
    for layer in range(case.depth):
        for _output in range(case.width):
            for _input in range(case.c_in + case.width * layer):
                count += 2 * 3 ** len(case.space)
    return count


def test_depth_100_takes_the_published_number_of_operations():
    assert Case((256, 256), depth=100).block_flops_per_pixel == 90_900


@settings(deadline=None, max_examples=30)
@given(
    ndim=st.integers(2, 3),
    depth=st.integers(1, 12),
    width=st.integers(1, 4),
    c_in=st.integers(1, 3),
    c_out=st.integers(1, 3),
    batch=st.integers(1, 3),
)
def test_operations_are_counted_exactly(ndim, depth, width, c_in, c_out, batch):
    case = Case((20, 17, 13)[:ndim], depth, width, c_in=c_in, c_out=c_out, batch=batch)
    pixels = batch * (340 if ndim == 2 else 4420)
    final = 2 * c_out * (c_in + width * depth)
    assert case.pixels == pixels
    assert case.block_flops_per_pixel == count_by_loops(case)
    assert case.forward_flops == pixels * (count_by_loops(case) + final)
    assert case.buffer_bytes == 4 * pixels * (c_in + width * depth)


def test_a_case_reads_as_a_line():
    assert str(Case((64, 32), 30, 2)) == "64 x 32, depth 30, width 2, symmetric padding"
    assert str(Case((8, 8, 9), 3, padding="zeros", batch=2)) == (
        "2 images of 8 x 8 x 9, depth 3, width 1, zeros padding"
    )


def sizes(cases):
    return [(case.ndim, case.space[0], case.depth, case.width) for case in cases]


def test_the_default_cases_are_few():
    assert set(sizes(select_cases())) == {
        (2, 256, 30, 1),
        (2, 256, 100, 1),
        (2, 512, 30, 1),
        (2, 512, 100, 1),
        (2, 256, 30, 4),
        (3, 64, 30, 1),
    }


def test_full_means_every_combination():
    everything = sizes(select_cases(full=True))
    images = {(2, s, d, w) for s in (256, 512, 1024, 2048) for d in (30, 100) for w in (1, 4)}
    volumes = {(3, s, d, w) for s in (64, 128) for d in (30, 100) for w in (1, 4)}
    assert set(everything) == images | volumes
    assert len(everything) == len(images | volumes)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"sizes": [128]}, {(2, 128, 30, 1), (2, 128, 100, 1)}),
        ({"sizes": [32], "ndims": [3]}, {(3, 32, 30, 1)}),
        ({"sizes": [32], "depths": [5, 7], "widths": [2]}, {(2, 32, 5, 2), (2, 32, 7, 2)}),
        ({"ndims": [3], "depths": [5]}, {(3, 64, 5, 1)}),
        ({"depths": [5]}, {(2, 256, 5, 1), (2, 512, 5, 1), (3, 64, 5, 1)}),
        (
            {"sizes": [32], "ndims": [2], "full": True},
            {(2, 32, d, w) for d in (30, 100) for w in (1, 4)},
        ),
    ],
)
def test_options_select_combinations(chosen, expected):
    found = sizes(select_cases(**chosen))
    assert set(found) == expected
    assert len(found) == len(expected)


def test_cheap_cases_come_first_and_have_the_padding_asked_for():
    cases = select_cases(padding="zeros")
    costs = [case.forward_flops for case in cases]
    assert costs == sorted(costs)
    assert {case.padding for case in cases} == {"zeros"}


def test_the_tensors_of_a_case_have_its_shapes():
    problem = Problem(Case((9, 7), depth=3, width=2, c_in=2, c_out=4, batch=5), CPU)
    assert problem.input.shape == (5, 2, 9, 7)
    assert problem.upstream.shape == (5, 4, 9, 7)
    assert [tuple(weight.shape) for weight in problem.weights] == [
        (2, 2, 3, 3),
        (2, 4, 3, 3),
        (2, 6, 3, 3),
    ]
    assert problem.final_weight.shape == (4, 8, 1)
    assert all(parameter.requires_grad for parameter in problem.parameters)
    assert not problem.input.requires_grad


def test_the_values_of_a_case_do_not_depend_on_the_type():
    case = Case((9, 7), depth=3)
    single, double = Problem(case, CPU), Problem(case, CPU, torch.float64)
    assert double.input.dtype == torch.float64
    for one, other in zip(single.parameters, double.parameters, strict=True):
        assert torch.equal(one.double(), other)
    assert torch.equal(single.input.double(), double.input)
    assert torch.equal(single.upstream.double(), double.upstream)


def test_making_a_case_leaves_the_random_numbers_alone():
    before = torch.get_rng_state()
    Problem(Case((9, 7), depth=3), CPU)
    assert torch.equal(before, torch.get_rng_state())


def test_bytes_of_a_network_of_two_blocks():
    case = Case((10, 10), depth=10)  # blocks of 8 and 2 layers read 1 and 9 channels
    assert forward_bytes(case) == 4 * 100 * (1 + 9 + 11)
    assert step_bytes(case) == 4 * 100 * (10 + 11 + 3 * 10 + 2 * 11)


def test_the_limit_is_arithmetic_or_memory():
    case = Case((10, 10), depth=10)
    flops = 100 * (2 * 9 * 55 + 2 * 11)
    assert forward_limit(case, 1e6, 1e12) == pytest.approx(flops / 1e6)
    assert step_limit(case, 1e6, 1e12) == pytest.approx(3 * flops / 1e6)
    assert forward_limit(case, 1e12, 1e3) == pytest.approx(8.4)
