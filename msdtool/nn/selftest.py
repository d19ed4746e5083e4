"""The self-test of `msdtool.ops.selftest`, and that of the semifields."""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from msdtool.nn.semifield import SelectSemifield, SubtractSemifield
from msdtool.ops import kernels, selftest, sources
from msdtool.ops.selftest import ALLOWED, Check, relative_error
from msdtool.ops.semifield import Convolution, select_conv, subtract_conv

SEMIFIELDS: tuple[SelectSemifield | SubtractSemifield, ...] = (
    SelectSemifield.tropical_max(),
    SelectSemifield.tropical_min_negated(),
    SubtractSemifield.linear(),
    SubtractSemifield.root(2.5),
    SubtractSemifield.log(-3.0),
)
CONVOLUTION = Convolution(stride=(2, 1), padding=1, dilation=(1, 2), groups=2)


def check_all(device: torch.device) -> Iterator[Check]:
    """Check what "auto" takes on the device, and every kernel if kernels can run there.

    Raises:
        KernelError: a kernel cannot be compiled or launched.
    """
    yield from selftest.check_all(device)
    yield from check_semifields(device, "auto")
    if kernels.obstacle(device) is None:
        yield from check_semifields(device, "cuda")


def check_semifields(device: torch.device, impl: str) -> Iterator[Check]:
    """Check semifield convolutions and their gradients."""
    for dtype, semifield in itertools.product((torch.float64, torch.float32), SEMIFIELDS):
        # As float32 holds them, so that the same terms win in both types.
        generator = torch.Generator().manual_seed(0)
        drawn = [torch.rand(shape, generator=generator) for shape in ((2, 4, 13, 11), (6, 2, 3, 3))]
        found, expected = (
            _run(semifield, [0.3 + values.to(device) for values in drawn], computed, name)
            for computed, name in ((dtype, impl), (torch.float64, "reference"))
        )
        error = max(relative_error(*pair) for pair in zip(found, expected, strict=True))
        name = f"semifield {semifield.cache_name}, {impl}, {sources.STORAGES[dtype]}"
        yield Check(name, error, ALLOWED[dtype])


def _run(
    semifield: SelectSemifield | SubtractSemifield,
    drawn: list[Tensor],
    dtype: torch.dtype,
    impl: str,
) -> list[Tensor]:
    """Output and gradients."""
    img, kernel = (values.to(dtype).requires_grad_() for values in drawn)
    if isinstance(semifield, SelectSemifield):
        output = select_conv(img, kernel, semifield, CONVOLUTION, impl)
    else:
        output = subtract_conv(img, kernel, semifield, CONVOLUTION, impl)
    return [output.detach(), *torch.autograd.grad(output.sum(), (img, kernel))]
