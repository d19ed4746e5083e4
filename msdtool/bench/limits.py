"""The least time a GPU can take, by counts: its arithmetic, or its memory.

Counted for the engine's method: k layers at a time read the channels in front of all of them once.
Only what has to pass through memory is counted, all channels and their gradients; the stacks of
taps can stay in the cache.
"""

from msdtool.bench.cases import BYTES_PER_VALUE, Case
from msdtool.ops.cuda_engine import BLOCK_CHANNELS

STEP_PER_FORWARD = 3  # backward is two products more: by the channels and by the weights


def forward_bytes(case: Case) -> int:
    """Every block reads the channels in front of it; all channels are written once."""
    return BYTES_PER_VALUE * case.pixels * (_channels_read(case) + case.channels)


def step_bytes(case: Case) -> int:
    """Backward reads channels, and reads and writes gradients, as often as forward reads."""
    backward = 3 * _channels_read(case) + 2 * case.channels
    return forward_bytes(case) + BYTES_PER_VALUE * case.pixels * backward


def forward_limit(case: Case, flops_per_second: float, bytes_per_second: float) -> float:
    """Seconds that a forward pass takes at least."""
    return max(case.forward_flops / flops_per_second, forward_bytes(case) / bytes_per_second)


def step_limit(case: Case, flops_per_second: float, bytes_per_second: float) -> float:
    """Seconds that a training step takes at least."""
    flops = STEP_PER_FORWARD * case.forward_flops
    return max(flops / flops_per_second, step_bytes(case) / bytes_per_second)


def _channels_read(case: Case) -> int:
    layers = max(1, BLOCK_CHANNELS[case.ndim] // case.width)
    return sum(case.channels_before(layer) for layer in range(0, case.depth, layers))
