"""Streaming an image in strips gives what the whole image gives."""

import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msdtool import ops
from msdtool.errors import DoesNotFit
from msdtool.ops.out_of_core.module import RESERVED_BYTES
from tests.ops.formula import Problem, make_problem


def stream(
    problem: Problem, memory_bytes: int, directory: Path, buffer: str = "disk"
) -> np.ndarray:
    """The output for the problem's only image, from NumPy arrays."""
    image, weights, bias, final_weight, final_bias, dilations, padding = problem.module_arguments()
    pixels = image[0].detach().numpy()
    output = np.full((len(final_bias), *pixels.shape[1:]), np.nan)
    ops.msd_module_streamed(
        pixels, weights, bias, final_weight, final_bias, dilations, padding,
        output=output, memory_bytes=memory_bytes, buffer=buffer, directory=directory,
    )  # fmt: skip
    return output


@pytest.mark.parametrize("padding", ["symmetric", "reflect", "zeros"])
@pytest.mark.parametrize("space", [(97, 21), (45, 7, 8)])
@pytest.mark.parametrize("extra_bytes", [300_000, 900_000, 2**28])
def test_equals_the_whole_image(
    space: tuple[int, ...], padding: str, extra_bytes: int, tmp_path: Path
) -> None:
    problem = make_problem(
        space, 13, width=2, c_in=2, c_out=2, dilations=(1, 2, 3, 4), padding=padding
    )
    output = stream(problem, RESERVED_BYTES + extra_bytes, tmp_path)
    expected = ops.msd_module(*problem.module_arguments())[0].detach().numpy()
    np.testing.assert_allclose(output, expected, rtol=1e-10, atol=1e-10)
    assert list(tmp_path.iterdir()) == []


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_random_networks_give_the_same_in_strips(data: st.DataObject, tmp_path: Path) -> None:
    """Few slices more than the least: many passes, many strips, the last of them thin."""
    draw = data.draw
    padding = draw(st.sampled_from(["symmetric", "reflect", "zeros"]))
    dilations = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    rest = draw(st.sampled_from([(5,), (11,), (5, 6)]))
    space = (draw(st.integers(5, 60)), *rest)
    problem = make_problem(
        space,
        draw(st.integers(1, 7)),
        width=draw(st.integers(1, 2)),
        c_in=draw(st.integers(1, 3)),
        c_out=draw(st.integers(1, 2)),
        dilations=dilations,
        padding=padding,
        seed=draw(st.integers(0, 99)),
    )
    expected = ops.msd_module(*problem.module_arguments())[0].detach().numpy()
    least = least_memory(problem)
    for extra in (0, draw(st.integers(0, 20 * least))):
        output = stream(problem, RESERVED_BYTES + least + extra, tmp_path)
        np.testing.assert_allclose(output, expected, rtol=1e-10, atol=1e-10)


def least_memory(problem: Problem) -> int:
    """Bytes for a strip that the error names when there is too little."""
    with pytest.raises(DoesNotFit) as error:
        stream(problem, RESERVED_BYTES, Path())
    return int(str(error.value).rsplit(" ", 1)[1])


@pytest.mark.parametrize("buffer", ["host", "device"])
@pytest.mark.parametrize("space", [(97, 21), (45, 7, 8)])
def test_channels_in_memory_leave_the_disk_alone(
    space: tuple[int, ...], buffer: str, tmp_path: Path
) -> None:
    problem = make_problem(space, 13, width=2, c_in=2, c_out=2, dilations=(1, 2, 3, 4))
    missing = tmp_path / "missing"
    output = stream(problem, RESERVED_BYTES + 300_000, missing, buffer)
    expected = ops.msd_module(*problem.module_arguments())[0].detach().numpy()
    np.testing.assert_allclose(output, expected, rtol=1e-10, atol=1e-10)


def test_an_unknown_buffer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="buffer is 'tape'; allowed: disk, host, device"):
        stream(make_problem((40, 30), 3), RESERVED_BYTES + 2**20, tmp_path, "tape")


def test_progress_goes_from_nothing_to_all(tmp_path: Path) -> None:
    problem = make_problem((200, 30), 9)
    seen: list[float] = []
    image, *parameters = problem.module_arguments()
    ops.msd_module_streamed(
        image[0].detach().numpy(),
        *parameters,
        output=np.empty((1, 200, 30)),
        memory_bytes=RESERVED_BYTES + 60_000,
        directory=tmp_path,
        progress=lambda done, total, note="": seen.append(done / total),
    )
    assert seen == sorted(seen) and len(seen) > 5
    assert 0 < seen[0] < 0.5 and seen[-1] == pytest.approx(1)


def test_each_range_of_input_and_output_is_taken_once_in_order(tmp_path: Path) -> None:
    class Watched:
        def __init__(self, array: np.ndarray) -> None:
            self.array, self.shape = array, array.shape
            self.seen: list[int] = []

        def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
            self.seen += range(self.shape[1])[key[1]]
            return self.array[key]

        def __setitem__(self, key: tuple[slice, slice], value: np.ndarray) -> None:
            self.seen += range(self.shape[1])[key[1]]
            self.array[key] = value

    problem = make_problem((150, 30), 9)
    image, *parameters = problem.module_arguments()
    input, output = Watched(image[0].detach().numpy()), Watched(np.empty((1, 150, 30)))
    ops.msd_module_streamed(
        input, *parameters, output=output, memory_bytes=RESERVED_BYTES + 60_000, directory=tmp_path
    )
    assert input.seen == output.seen == list(range(150))


def test_a_disk_without_room_is_said_before_the_work(tmp_path: Path) -> None:
    problem = make_problem((200, 30), 9)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            stream(problem, RESERVED_BYTES + 60_000, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_too_little_memory_says_what_it_needs(tmp_path: Path) -> None:
    problem = make_problem((64, 64))
    with pytest.raises(DoesNotFit, match="leaves 100 bytes for a strip; layer 4 needs at least"):
        stream(problem, RESERVED_BYTES + 100, tmp_path)


def test_parameters_of_several_kinds_are_named() -> None:
    problem = make_problem((8, 9))
    image, weights, bias, final_weight, *rest = problem.module_arguments()

    def run(weights: list[torch.Tensor], *others: object) -> None:
        ops.msd_module_streamed(
            image[0].detach().numpy(), weights, *others, output=np.empty((1, 8, 9)),
            memory_bytes=2**30,
        )  # fmt: skip

    with pytest.raises(ValueError, match="bias is on cpu, a parameter is on meta"):
        run([weight.to("meta") for weight in weights], bias, final_weight, *rest)
    with pytest.raises(ValueError, match=r"bias has dtype .*float64, a parameter has .*float32"):
        run(weights, bias, final_weight.float(), *rest)
    half = make_problem((8, 9), dtype=torch.bfloat16).module_arguments()[1:]
    with pytest.raises(ValueError, match=r"dtype .*bfloat16; expected float32 or float64"):
        run(*half)


def test_wrong_output_shape_is_named(tmp_path: Path) -> None:
    problem = make_problem((8, 9))
    image, *parameters = problem.module_arguments()
    with pytest.raises(ValueError, match=r"output has shape \(1, 9, 8\); expected \(1, 8, 9\)"):
        ops.msd_module_streamed(
            image[0].detach().numpy(),
            *parameters,
            output=np.empty((1, 9, 8)),
            memory_bytes=2**30,
        )
    assert torch.is_grad_enabled()
