"""Networks from their architectures."""

from collections.abc import Mapping
from typing import Any

import torch
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
    """Build the MSD network alone; on image sequences it works frame by frame."""
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


def restore_network(architecture: Architecture, state: Mapping[str, Tensor]) -> ScaledNetwork:
    """Build a network with stored weights, which `msdtool.runs.weights` has checked.

    What that cannot know, the weights of layers from YAML, is compared with what these layers would
    have before they are made: their arguments may ask for any number of channels.

    Args:
        architecture: of the network.
        state: its state dict.

    Raises:
        ValueError: the layers cannot be made, or have other weights.
    """
    try:
        if architecture.outer is not None or architecture.hidden is not None:
            with torch.device("meta"):
                _compare(build_network(architecture).state_dict(), state)
        network = build_network(architecture)
        network.load_state_dict(state)
    except Exception as error:  # whatever torch and the layers stumble over
        # Torch says what is wrong below a heading.
        raise ValueError(str(error).split("\n")[:2][-1].strip()) from None
    return network


def _compare(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless there are the expected tensors of the expected shapes."""
    for name in {**expected, **state}:
        shapes = [tuple(of[name].shape) if name in of else None for of in (expected, state)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{name} has shape {shapes[1]}; the layers need {shapes[0]} (None: no such tensor)"
            )
