"""Networks from plain descriptions, as a config or a checkpoint holds them."""

from typing import Any

from msdtool.config import NetworkConfig
from msdtool.nn.msd import MSDModule
from msdtool.nn.scaling import ScaledNetwork

Architecture = dict[str, Any]
"""The arguments of an `MSDModule`: everything that a network's shape depends on."""


def architecture(config: NetworkConfig, c_in: int, c_out: int) -> Architecture:
    """Return the architecture that a config asks for, for the given numbers of channels."""
    return {"c_in": c_in, "c_out": c_out, **config.model_dump()}


def build_network(architecture: Architecture) -> ScaledNetwork:
    """Make the network; its weights are random, its scaling layers pass values on."""
    msd = MSDModule(**architecture)
    return ScaledNetwork(msd, msd.c_in, msd.c_out, architecture["ndim"])
