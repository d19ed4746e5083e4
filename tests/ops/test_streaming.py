"""Streaming an image in strips gives what the whole image gives."""

from pathlib import Path

import numpy as np
import pytest
import torch

from msdtool import ops
from msdtool.ops.engine import Network
from msdtool.ops.streaming import RESERVED_BYTES, plan_passes
from tests.ops.formula import Problem, make_problem


def stream(problem: Problem, memory_bytes: int, directory: Path) -> np.ndarray:
    """The output for the problem's only image, from NumPy arrays."""
    image, weights, bias, final_weight, final_bias, dilations, padding = problem.module_arguments()
    pixels = image[0].detach().numpy()
    output = np.full((len(final_bias), *pixels.shape[1:]), np.nan)
    ops.msd_module_streamed(
        pixels, weights, bias, final_weight, final_bias, dilations, padding,
        output=output, memory_bytes=memory_bytes, directory=directory,
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


def test_little_memory_means_narrow_strips() -> None:
    network = Network(1, 1, tuple(range(1, 11)) * 10)
    passes = plan_passes(network, (4096, 4096), 2**28, torch.empty(0))
    assert [layer for step in passes for layer in step.layers] == list(range(100))
    for step in passes:
        strip = (step.strip_slices + 2 * step.halo) * 4096 * 4
        assert strip * network.channels_before(step.layers.stop) <= 2**28


def test_too_little_memory_says_what_it_needs(tmp_path: Path) -> None:
    problem = make_problem((64, 64))
    with pytest.raises(ValueError, match="leaves 100 bytes for a strip; layer 4 needs at least"):
        stream(problem, RESERVED_BYTES + 100, tmp_path)


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
