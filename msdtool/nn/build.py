"""Networks from their architectures."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from msdtool.architecture import Architecture
from msdtool.nn.msd import MSDModule
from msdtool.nn.scaling import ScaledNetwork
from msdtool.nn.series import SeriesNetwork
from msdtool.nn.yaml_layers.general import GeneralMSDModule
from msdtool.nn.yaml_layers.registry import make_chain


def build_network(architecture: Architecture) -> ScaledNetwork:
    """Build a network; its weights are random, its scaling layers are the identity.

    Raises:
        ValueError: an argument does not fit.
    """
    outer, stream, ndim = architecture.outer, architecture.stream, architecture.ndim
    c_in, c_out = architecture.c_in, architecture.c_out
    if outer is None:
        msd, before, after = _build_msd(architecture, c_in, c_out), None, None
    else:
        msd = _build_msd(architecture, outer.c_stem, outer.features)
        if outer.head:
            # Zeros, with which the 1x1 layer starts, could leave layers after it without gradients.
            nn.init.xavier_normal_(msd.get_parameter("final_layer.linear.weight"))
        before, after = make_chain(outer.stem), make_chain(outer.head)
    if stream is not None:
        return SeriesNetwork(msd, c_in, c_out, stream.axis, stream.dt, stem=before, head=after)
    return ScaledNetwork(msd, c_in, c_out, ndim, stem=before, head=after, scale=architecture.scale)


def _build_msd(architecture: Architecture, c_in: int, c_out: int) -> nn.Module:
    """Build the MSD network alone; on series it works frame by frame."""
    arguments: dict[str, Any] = {
        "depth": architecture.depth,
        "width": architecture.width,
        "dilations": architecture.dilations,
        "ndim": architecture.ndim if architecture.stream is None else 2,
        "padding": architecture.padding,
    }
    hidden = architecture.hidden
    if hidden is None:
        return MSDModule(c_in, c_out, **arguments)
    return GeneralMSDModule(c_in, c_out, **arguments, **vars(hidden))


def has_all_layers(architecture: Architecture, state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has weights of the deepest hidden layer of an architecture."""
    last = architecture.depth - 1
    start = f"msd.msd_block.weight{last}" if architecture.hidden is None else f"msd.layers.{last}."
    return any(name.startswith(start) for name in state)
