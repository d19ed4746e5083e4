"""What is measured: networks and images, their tensors, their counted cost and least time.

The least time that a GPU can take is that of its arithmetic or of its memory. It is counted for the
engine's method: k layers at a time read the channels preceding all of them once. Only what has to
pass through memory counts, all channels and their gradients; the stacks of taps can stay in the
cache.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from msdtool.nn import MSDModule
from msdtool.nn.msd import DILATIONS
from msdtool.ops.cuda.product import BLOCK_CHANNELS
from msdtool.ops.engine import channels_before
from msdtool.wording import size_text

# The arguments of ops.msd_module up to `padding`.
Module = Callable[..., Tensor]

BYTES_PER_VALUE = 4  # times and memory are those of float32
STEP_PER_FORWARD = 3  # backward adds two products: by the channels and by the weights
SIZES = {2: (256, 512, 1024, 2048), 3: (64, 128)}
DEPTHS = (30, 100)
WIDTHS = (1, 4)
DEFAULT_SIZES = {2: (256, 512), 3: (64,)}


@dataclass(frozen=True)
class Case:
    """A network and the images it is applied to."""

    space: tuple[int, ...]
    depth: int
    width: int = 1
    padding: str = "symmetric"
    c_in: int = 1
    c_out: int = 1
    batch: int = 1

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.space)

    @property
    def pixels(self) -> int:
        """Pixels of the whole batch."""
        return self.batch * math.prod(self.space)

    @property
    def channels(self) -> int:
        """Channels of the block's output: the input's and those of all layers."""
        return self.channels_before(self.depth)

    def channels_before(self, layer: int) -> int:
        """Channels that a layer reads."""
        return channels_before(self.c_in, self.width, layer)

    @property
    def block_flops_per_pixel(self) -> int:
        """Multiplications and additions of the hidden layers."""
        channels = sum(self.channels_before(layer) for layer in range(self.depth))
        return 2 * 3**self.ndim * self.width * channels

    @property
    def forward_flops(self) -> int:
        """Multiplications and additions of the hidden and the final layer."""
        return self.pixels * (self.block_flops_per_pixel + 2 * self.c_out * self.channels)

    @property
    def buffer_bytes(self) -> int:
        """Size of Y, all channels of the block; their gradients G take the same amount again."""
        return BYTES_PER_VALUE * self.pixels * self.channels

    def __str__(self) -> str:
        batch = f"{self.batch} images of " if self.batch > 1 else ""
        network = f"depth {self.depth}, width {self.width}, {self.padding} padding"
        return f"{batch}{size_text(self.space)}, {network}"


class Problem:
    """The tensors of a case: input, parameters and the gradient that arrives from the loss.

    Two problems of the same case and seed hold the same values, whatever their dtype and device.
    """

    def __init__(
        self, case: Case, device: torch.device, dtype: torch.dtype = torch.float32, seed: int = 0
    ) -> None:
        # A separate generator leaves the caller's random state untouched.
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        def place(tensor: Tensor) -> Tensor:
            return tensor.detach().to(device, dtype)

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = MSDModule(
                case.c_in, case.c_out, case.depth, case.width, ndim=case.ndim, padding=case.padding
            )
        self.case = case
        self.input = place(normal(case.batch, case.c_in, *case.space))
        self.upstream = place(normal(case.batch, case.c_out, *case.space))
        self.weights = [nn.Parameter(place(weight)) for weight in network.msd_block.weights]
        self.bias = nn.Parameter(place(0.1 * normal(case.width * case.depth)))
        # The final layer starts at zero, and would pass no gradient to the layers before it.
        final_weight = normal(case.c_out, case.channels, 1) / case.channels**0.5
        self.final_weight = nn.Parameter(place(final_weight))
        self.final_bias = nn.Parameter(place(normal(case.c_out)))

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All trained parameters."""
        return [*self.weights, self.bias, self.final_weight, self.final_bias]

    def forward(self, module: Module) -> Tensor:
        """Apply the network as ``module`` computes it."""
        return module(
            self.input,
            self.weights,
            self.bias,
            self.final_weight,
            self.final_bias,
            DILATIONS,
            self.case.padding,
        )

    def backward(self, output: Tensor) -> tuple[Tensor, ...]:
        """Return the gradient of each parameter, and of the input if it requires one."""
        wanted = [tensor for tensor in (*self.parameters, self.input) if tensor.requires_grad]
        return torch.autograd.grad(output, wanted, self.upstream)


def select_cases(
    sizes: Sequence[int] = (),
    depths: Sequence[int] = (),
    widths: Sequence[int] = (),
    ndims: Sequence[int] = (),
    padding: str = "symmetric",
    full: bool = False,
) -> list[Case]:
    """Return every combination of the given values, the cheapest first.

    Omitted values default to the complete lists with ``full``, and otherwise to a few sizes and
    depths and width 1. If all are omitted, one wider network is added.
    """
    chosen = list(_combine(sizes, depths, widths, ndims, full))
    if not (full or sizes or depths or widths or ndims):
        chosen.append(Case((256, 256), depth=30, width=4))
    return sorted(
        (replace(case, padding=padding) for case in chosen), key=lambda case: case.forward_flops
    )


def _combine(
    sizes: Sequence[int],
    depths: Sequence[int],
    widths: Sequence[int],
    ndims: Sequence[int],
    full: bool,
) -> Iterator[Case]:
    # A size alone means an image: a volume of that size would be far more expensive.
    for ndim in ndims or ((2,) if sizes and not full else (2, 3)):
        few_depths = DEPTHS if ndim == 2 else DEPTHS[:1]
        for size in sizes or (SIZES if full else DEFAULT_SIZES)[ndim]:
            for depth in depths or (DEPTHS if full else few_depths):
                for width in widths or (WIDTHS if full else WIDTHS[:1]):
                    yield Case((size,) * ndim, depth, width)


def forward_bytes(case: Case) -> int:
    """Every block reads its preceding channels; all channels are written once."""
    return BYTES_PER_VALUE * case.pixels * (_channels_read(case) + case.channels)


def step_bytes(case: Case) -> int:
    """Backward reads channels, and reads and writes gradients, as often as forward reads."""
    backward = 3 * _channels_read(case) + 2 * case.channels
    return forward_bytes(case) + BYTES_PER_VALUE * case.pixels * backward


def forward_limit(case: Case, flops_per_second: float, bytes_per_second: float) -> float:
    """Return the least seconds that a forward pass can take."""
    return max(case.forward_flops / flops_per_second, forward_bytes(case) / bytes_per_second)


def step_limit(case: Case, flops_per_second: float, bytes_per_second: float) -> float:
    """Return the least seconds that a training step can take."""
    flops = STEP_PER_FORWARD * case.forward_flops
    return max(flops / flops_per_second, step_bytes(case) / bytes_per_second)


def _channels_read(case: Case) -> int:
    layers = max(1, BLOCK_CHANNELS[case.ndim] // case.width)
    return sum(case.channels_before(layer) for layer in range(0, case.depth, layers))
