"""The self-test: everything that computes on a device against plain torch in float64.

Small odd sizes, all paddings, dtypes and numbers of axes. It takes a few seconds, most of them for
compiling the kernels on the first run.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from msdtool.border import PADDINGS
from msdtool.nn.semifield import SelectSemifield, SubtractSemifield
from msdtool.ops.block import msd_module
from msdtool.ops.cuda import launcher
from msdtool.ops.cuda.sources import STORAGES
from msdtool.ops.engines import KERNELS
from msdtool.ops.layers.inplace import conv2dInPlace, conv_relu2dInPlace
from msdtool.ops.semifield import Convolution, select_conv, subtract_conv

# Relative to the largest value. The rounding of 16-bit channels propagates through all layers.
ALLOWED = {
    torch.float64: 1e-10,
    torch.float32: 2e-5,
    torch.float16: 40 * torch.finfo(torch.float16).eps,
    torch.bfloat16: 40 * torch.finfo(torch.bfloat16).eps,
}
CONVOLUTIONS: tuple[Callable[..., Tensor], ...] = (conv2dInPlace, conv_relu2dInPlace)
ALLOWED_TF32 = 1e-2  # of float32 in products on tensor cores
SPACES = ((11, 13), (5, 6, 7))
SEMIFIELDS: tuple[SelectSemifield | SubtractSemifield, ...] = (
    SelectSemifield.tropical_max(),
    SelectSemifield.tropical_min_negated(),
    SubtractSemifield.linear(),
    SubtractSemifield.root(2.5),
    SubtractSemifield.log(-3.0),
)
DEPTH, WIDTH, DILATIONS = 6, 2, (1, 2, 4)


@dataclass(frozen=True)
class Check:
    """The largest relative error of an operation's output and gradients."""

    name: str
    error: float
    allowed: float

    @property
    def passed(self) -> bool:
        return self.error <= self.allowed  # false if the error is NaN


def check_all(device: torch.device) -> Iterator[Check]:
    """Check what "auto" chooses on the device, and every kernel if kernels can run on it.

    Raises:
        KernelError: a kernel cannot be compiled or launched.
    """
    yield from check_networks(device, "auto")
    yield from check_semifields(device, "auto")
    if launcher.obstacle(device) is None:
        for impl in KERNELS:
            yield from check_networks(device, impl)
        yield from check_rounded_networks(device)
        yield from check_convolutions(device)
        yield from check_semifields(device, "cuda")


def check_networks(device: torch.device, impl: str) -> Iterator[Check]:
    """Check a network and its gradients, for every dtype, number of axes and padding."""
    for dtype, space, padding in itertools.product(STORAGES, SPACES, PADDINGS):
        leaves = [leaf.to(device, dtype) for leaf in _network(space)]
        error = max(
            relative_error(one, two)
            for one, two in zip(
                _run(leaves, padding, impl),
                _run([leaf.double() for leaf in leaves], padding, "reference"),
                strict=True,
            )
        )
        name = f"network, {impl}, {STORAGES[dtype]}, {len(space)}D, {padding}"
        yield Check(name, error, ALLOWED[dtype])


def check_rounded_networks(device: torch.device) -> Iterator[Check]:
    """Check networks of float32 whose products may round to TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        for padding in PADDINGS:
            leaves = [leaf.to(device, torch.float32) for leaf in _network(SPACES[0])]
            expected = _run([leaf.double() for leaf in leaves], padding, "reference")
            errors = map(relative_error, _run(leaves, padding, "cuda"), expected)
            yield Check(f"network, cuda, TF32, 2D, {padding}", max(errors), ALLOWED_TF32)
    finally:
        torch.set_float32_matmul_precision(before)


def check_convolutions(device: torch.device) -> Iterator[Check]:
    """Check in-place convolutions with other kernel sizes and strides."""
    for size, stride, convolve in itertools.product((1, 3, 5), (1, 2), CONVOLUTIONS):
        generator = torch.Generator().manual_seed(0)
        shapes = ((2, 3, 11, 14), (4, 3, size, size), (4,))
        leaves = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
        leaves = [leaf.to(device).requires_grad_() for leaf in leaves]
        found = []
        for impl in ("cuda", "torch"):
            buffer = leaves[0].new_zeros(2, 6, -(-11 // stride), -(-14 // stride))
            output = convolve(*leaves, buffer[:, 1:5], stride, 2, impl)
            grads = torch.autograd.grad(output, leaves, _upstream(output))
            found.append([buffer, *grads])
        error = max(relative_error(one, two) for one, two in zip(*found, strict=True))
        name = f"{convolve.__name__}, kernel size {size}, stride {stride}"
        yield Check(name, error, ALLOWED[torch.float64])


def check_semifields(device: torch.device, impl: str) -> Iterator[Check]:
    """Check semifield convolutions with groups, strides and uneven padding, in two dtypes."""
    convolution = Convolution((2, 1), ((1, 2), (0, 2)), (1, 2), groups=2)
    for dtype, semifield in itertools.product((torch.float64, torch.float32), SEMIFIELDS):
        # Values that float32 holds exactly, so that the same terms win in both dtypes.
        generator = torch.Generator().manual_seed(0)
        drawn = [torch.rand(shape, generator=generator) for shape in ((2, 4, 13, 11), (6, 2, 3, 2))]
        convolve: Callable[..., Tensor] = (
            select_conv if isinstance(semifield, SelectSemifield) else subtract_conv
        )
        results = []
        for computed, name in ((dtype, impl), (torch.float64, "reference")):
            leaves = [(0.3 + values.to(device)).to(computed).requires_grad_() for values in drawn]
            output = convolve(*leaves, semifield, convolution, name)
            grads = torch.autograd.grad(output, leaves, _upstream(output))
            results.append([output.detach(), *grads])
        error = max(relative_error(*pair) for pair in zip(*results, strict=True))
        name = f"semifield {semifield.cache_name}, {impl}, {STORAGES[dtype]}"
        yield Check(name, error, ALLOWED[dtype])


def _network(space: tuple[int, ...]) -> list[Tensor]:
    """Input, bias, the final layer's weight and bias, and weights of a small random network.

    The channels lie alternately far above and far below zero: with values near the kink of the
    ReLU, rounding would decide whether a gradient passes.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)

    c_in, batch, taps = 2, 2, (3,) * len(space)
    channels = c_in + WIDTH * DEPTH
    scale = float(2 / 3 ** len(space) / channels) ** 0.5
    return [
        draw(batch, c_in, *space),
        draw(WIDTH * DEPTH, scale=0.1) + torch.tensor([8.0, -8.0]).repeat(WIDTH * DEPTH // 2),
        draw(1, channels, 1),
        draw(1),
        *(draw(WIDTH, c_in + WIDTH * layer, *taps, scale=scale) for layer in range(DEPTH)),
    ]


def _run(leaves: list[Tensor], padding: str, impl: str) -> list[Tensor]:
    """Output and gradients."""
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    input, bias, final_weight, final_bias, *weights = leaves
    output = msd_module(
        input, weights, bias, final_weight, final_bias, DILATIONS, padding, impl=impl
    )
    return [output.detach(), *torch.autograd.grad(output, leaves, _upstream(output))]


def _upstream(output: Tensor) -> Tensor:
    """The output's gradient; all positive, so that sums over pixels do not cancel."""
    values = torch.linspace(1, 2, output.numel(), dtype=torch.float64, device=output.device)
    return values.view_as(output).to(output.dtype)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest expected value."""
    return float((found.double() - expected).abs().max() / expected.abs().max())
