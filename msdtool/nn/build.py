"""Networks from plain descriptions, as a config or a checkpoint holds them."""

from collections.abc import Sequence
from typing import TypedDict

from msdtool.config import NetworkConfig
from msdtool.nn.msd import MSDModule
from msdtool.nn.scaling import ScaledNetwork


class Architecture(TypedDict):
    """Everything that a network's shape depends on, as plain data."""

    c_in: int
    c_out: int
    depth: int
    width: int
    dilations: Sequence[int]
    ndim: int
    padding: str


def architecture(config: NetworkConfig, c_in: int, c_out: int) -> Architecture:
    """Return the architecture that a config asks for, for the given numbers of channels."""
    return Architecture(
        c_in=c_in,
        c_out=c_out,
        depth=config.depth,
        width=config.width,
        dilations=config.dilations,
        ndim=config.ndim,
        padding=config.padding,
    )


def build_network(architecture: Architecture) -> ScaledNetwork:
    """Make the network; its weights are random, its scaling layers pass values on."""
    msd = MSDModule(**architecture)
    return ScaledNetwork(
        msd, architecture["c_in"], architecture["c_out"], architecture["ndim"]
    )
