"""The engines that compute an MSD block, and which of them serves a tensor."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from msdtool.ops import library
from msdtool.ops.compiled import CompiledEngine
from msdtool.ops.engine import BlockEngine, BlockGradients, Network
from msdtool.ops.halo import Layout


class Engine(Protocol):
    """Computes one MSD block and its final layer, image by image, on images of one size.

    Planes hold all channels of one image, grads the gradient by them, both in the engine's own
    arrangement.
    """

    @property
    def network(self) -> Network: ...

    @property
    def slice_bytes(self) -> int:
        """Bytes of all channels in one slice of the outermost axis."""
        ...

    def new_planes(self, *leading: int, like: Tensor) -> Tensor:
        """Uninitialised buffer of all channels, the ``leading`` axes in front."""
        ...

    def pixels(self, planes: Tensor) -> Tensor:
        """View planes as images [*leading, C, *space]."""
        ...

    def load(self, grads: Tensor, pixels: Tensor) -> None:
        """Copy the gradients by all channels, [C, *space], to grads."""
        ...

    def forward(self, planes: Tensor, weights: Sequence[Tensor], bias: Tensor) -> None:
        """Compute all channels of planes after the first c_in, whose pixels are given."""
        ...

    def backward(
        self, planes: Tensor, grads: Tensor, weights: Sequence[Tensor], gradients: BlockGradients
    ) -> None:
        """Add the gradients of one image; grads ends as the gradient by the input channels."""
        ...

    def forward_final(self, planes: Tensor, weight: Tensor, bias: Tensor, output: Tensor) -> None:
        """Write weight [c_out, C, 1] times planes plus bias [c_out] to output [c_out, *space]."""
        ...

    def backward_final(
        self,
        planes: Tensor,
        weight: Tensor,
        grad_output: Tensor,
        grads: Tensor,
        grad_weight: Tensor | None,
    ) -> None:
        """Write the gradient by every channel to grads; add that by the weight to grad_weight."""
        ...


class EngineMaker(Protocol):
    """Makes an engine for tensors of the dtype and on the device of ``like``."""

    def __call__(
        self, network: Network, space: tuple[int, ...], padding: str, like: Tensor
    ) -> Engine: ...


def blocked_engine(
    network: Network, space: tuple[int, ...], padding: str, like: Tensor
) -> BlockEngine:
    """The engine in plain torch, for any device."""
    layout = Layout(space, max(network.dilations), padding)
    return BlockEngine(network, layout, like.element_size())


def compiled_engine(
    network: Network, space: tuple[int, ...], padding: str, like: Tensor
) -> CompiledEngine:
    """The engine in C++.

    Raises:
        ValueError: the tensor is not on the CPU.
        KernelError: the library cannot be built.
    """
    if like.device.type != "cpu":
        raise ValueError(f'impl "compiled" computes on the CPU; the input is on {like.device}')
    library.load(like.dtype)
    return CompiledEngine(network, space, padding, like.dtype)


def fastest(device: torch.device, dtype: torch.dtype) -> str:
    """Name of the fastest engine that a device has for a dtype."""
    compiled = device.type == "cpu" and library.available(dtype)
    return "compiled" if compiled else "blocked"


def auto_engine(network: Network, space: tuple[int, ...], padding: str, like: Tensor) -> Engine:
    """The fastest engine there is for a tensor."""
    compiled = fastest(like.device, like.dtype) == "compiled"
    make_engine: EngineMaker = compiled_engine if compiled else blocked_engine
    return make_engine(network, space, padding, like)
