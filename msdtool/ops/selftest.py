"""Every kernel against plain torch in float64, on the device at hand: is what it computes right?

Small odd sizes, all border rules, dtypes and numbers of axes; a few seconds, most of them the
compiler's the first time.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from msdtool.ops import kernels
from msdtool.ops.block import KERNELS, msd_module
from msdtool.ops.checks import PADDINGS
from msdtool.ops.inplace import conv2dInPlace, conv_relu2dInPlace
from msdtool.ops.semifield import (
    Convolution,
    SelectOperations,
    SubtractOperations,
    select_conv,
    subtract_conv,
)
from msdtool.ops.sources import STORAGES

# Relative to the largest value. The rounding of 16-bit channels goes through all layers.
ALLOWED = {
    torch.float64: 1e-10,
    torch.float32: 2e-5,
    torch.float16: 40 * torch.finfo(torch.float16).eps,
    torch.bfloat16: 40 * torch.finfo(torch.bfloat16).eps,
}
CONVOLUTIONS: tuple[Callable[..., Tensor], ...] = (conv2dInPlace, conv_relu2dInPlace)
ALLOWED_TF32 = 1e-2  # of float32 in products on tensor cores
SPACES = ((11, 13), (5, 6, 7))
# A semifield of either kind: (max, +) and (+, *), without the ways around the kernels.
MAX_PLUS = SelectOperations(
    torch.lt, torch.add, lambda *_: 1.0, lambda *_: 1.0, -torch.inf, None,
    {"add_select": "left < right", "times": "img + kernel",
     "d_times_d_img": "1", "d_times_d_kernel": "1"},
)  # fmt: skip
SUM_PRODUCT = SubtractOperations(
    torch.add, torch.mul, lambda _, kernel: kernel, lambda img, _: img, torch.sub,
    lambda *_: 1.0, 0.0,
    cuda={"add": "acc + val", "times": "img * kernel", "subtract": "res - val",
          "d_times_d_img": "kernel", "d_times_d_kernel": "img", "d_add_d_right": "1"},
)  # fmt: skip
DEPTH, WIDTH, DILATIONS = 6, 2, (1, 2, 4)


@dataclass(frozen=True)
class Check:
    """The largest relative error of an operation's output and gradients."""

    name: str
    error: float
    allowed: float

    @property
    def passed(self) -> bool:
        return self.error <= self.allowed  # no number at all does not pass


def check_all(device: torch.device) -> Iterator[Check]:
    """Check what "auto" takes on the device, and every kernel if kernels can run there.

    Raises:
        KernelError: a kernel cannot be compiled or launched.
    """
    yield from check_networks(device, "auto")
    if kernels.obstacle(device) is None:
        for impl in KERNELS:
            yield from check_networks(device, impl)
        yield from check_convolutions(device)
        yield from check_semifields(device)


def check_networks(device: torch.device, impl: str) -> Iterator[Check]:
    """Check a network and its gradients, for every dtype, number of axes and border rule."""
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
        rounds = impl == "cuda-fused" and dtype == torch.float32
        yield Check(name, error, ALLOWED_TF32 if rounds else ALLOWED[dtype])


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


def check_semifields(device: torch.device) -> Iterator[Check]:
    """Check a semifield that selects and one that sums, with groups, strides and uneven padding."""
    convolution = Convolution((2, 1), ((1, 2), (0, 2)), (1, 2), groups=2)
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 11, 14), (4, 2, 3, 2))
    leaves = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    leaves = [leaf.to(device).requires_grad_() for leaf in leaves]
    computations: tuple[tuple[str, Callable[..., Tensor], object], ...] = (
        ("selects", select_conv, MAX_PLUS),
        ("sums", subtract_conv, SUM_PRODUCT),
    )
    for name, convolve, semifield in computations:
        found = []
        for impl in ("cuda", "reference"):
            output = convolve(*leaves, semifield, convolution, impl)
            found.append([output.detach(), *torch.autograd.grad(output, leaves, _upstream(output))])
        error = max(relative_error(one, two) for one, two in zip(*found, strict=True))
        yield Check(f"a semifield convolution that {name}", error, ALLOWED[torch.float64])


def _network(space: tuple[int, ...]) -> list[Tensor]:
    """Input, bias, the final layer's weight and bias, and weights of a small random network.

    Every second channel is far above zero and every other far below: with values near the kink of
    the ReLU, rounding would decide whether a gradient passes.
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
    """A gradient to start from; all positive, so that sums over pixels do not cancel."""
    values = torch.linspace(1, 2, output.numel(), dtype=torch.float64, device=output.device)
    return values.view_as(output).to(output.dtype)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest expected value."""
    return float((found.double() - expected).abs().max() / expected.abs().max())
