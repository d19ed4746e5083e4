"""Plain PyTorch twins of the operations: same names and signatures, exact in float64.

Shapes: B batch, C channels, *space one to three spatial axes (H, W or D, H, W).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from msdtool.border import edge_width
from msdtool.ops.engine import Parameters


def border_index(size: int, margin: int, padding: str, device: torch.device) -> Tensor:
    """Source index of each pixel of an axis widened by ``margin`` on both sides.

    "symmetric" repeats the edge pixel (-1 -> 0, size -> size - 1); "reflect" does not
    (-1 -> 1, size -> size - 2).
    """
    index = torch.arange(-margin, size + margin, device=device)
    edge = edge_width(padding)
    index = torch.where(index < 0, edge - 1 - index, index)
    return torch.where(index >= size, 2 * size - 1 - edge - index, index)


def pad(input: Tensor, margin: int, padding: str) -> Tensor:
    """Widen the spatial axes of ``input`` [B, C, *space] by ``margin`` under the border rule."""
    num_axes = input.dim() - 2
    if padding == "zeros":
        return F.pad(input, (margin, margin) * num_axes)
    for axis in range(2, input.dim()):
        index = border_index(input.shape[axis], margin, padding, input.device)
        input = input.index_select(axis, index)
    return input


def msd_block(
    input: Tensor, weights: Sequence[Tensor], bias: Tensor, dilations: Sequence[int], padding: str
) -> Tensor:
    """Densely connected dilated convolutions with ReLU (Pelt & Sethian, PNAS 2018, eq. 3)."""
    convolve = {4: F.conv2d, 5: F.conv3d}[input.dim()]
    width = weights[0].shape[0]
    features = input
    for layer, weight in enumerate(weights):
        dilation = dilations[layer % len(dilations)]
        layer_bias = bias[layer * width : (layer + 1) * width]
        padded = pad(features, dilation, padding)
        output = convolve(padded, weight, layer_bias, dilation=dilation)
        features = torch.cat([features, torch.relu(output)], dim=1)
    return features


def msd_module(
    input: Tensor,
    weights: Sequence[Tensor],
    bias: Tensor,
    final_weight: Tensor,
    final_bias: Tensor,
    dilations: Sequence[int],
    padding: str,
) -> Tensor:
    """An MSD block and its final 1x1 layer (Pelt & Sethian, PNAS 2018, eq. 4)."""
    features = msd_block(input, weights, bias, dilations, padding)
    output = F.conv1d(features.flatten(2), final_weight, final_bias)
    return output.view(*output.shape[:2], *input.shape[2:])


def compute(
    input: Tensor, parameters: Parameters, dilations: Sequence[int], padding: str
) -> Tensor:
    """`msd_module`, or without a final layer `msd_block`."""
    weights, bias, final_weight, final_bias = parameters
    if final_weight is None or final_bias is None:
        return msd_block(input, weights, bias, dilations, padding)
    return msd_module(input, weights, bias, final_weight, final_bias, dilations, padding)
