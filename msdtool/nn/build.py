"""Networks from plain descriptions, as a config or a checkpoint holds them."""

from typing import Any

from msdtool.config import NetworkConfig, StreamConfig
from msdtool.nn.msd import MSDModule
from msdtool.nn.scaling import ScaledNetwork
from msdtool.nn.series import SeriesNetwork

Architecture = dict[str, Any]
"""The arguments of an `MSDModule`, and, for a `SeriesNetwork`, "stream": its axis and dt."""


def architecture(
    config: NetworkConfig, c_in: int, c_out: int, stream: StreamConfig | None = None
) -> Architecture:
    """Return the architecture that a config asks for, for the given numbers of channels."""
    streamed = {} if stream is None else {"stream": stream.model_dump()}
    return {"c_in": c_in, "c_out": c_out, **config.model_dump(), **streamed}


def build_network(architecture: Architecture) -> ScaledNetwork:
    """Make the network; its weights are random, its scaling layers pass values on."""
    arguments = {key: value for key, value in architecture.items() if key != "stream"}
    stream = architecture.get("stream")
    if stream is None:
        msd = MSDModule(**arguments)
        return ScaledNetwork(msd, msd.c_in, msd.c_out, architecture["ndim"])
    msd = MSDModule(**{**arguments, "ndim": 2})
    return SeriesNetwork(msd, msd.c_in, msd.c_out, **stream)
