"""The block engine for CPUs in C++ (kernels/cpu), beside `msdtool.ops.engine` in plain torch.

Both compute the same products in blocks of layers. Here every row of the image goes through the
caches once per block, register tiles take the operands where they lie, and threads meet only
between layers; see the comments there.
"""

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.profiler import record_function

from msdtool.ops.checks import PADDINGS
from msdtool.ops.engine import BlockGradients, Network
from msdtool.ops.library import load
from msdtool.ops.memory import new_buffer

LINE_BYTES = 64
# Tiles of the products are four lines wide. Channels a larger power of two of lines apart would
# compete for few of the 64 sets of a first-level cache. An odd number of lines was no faster.
CONFLICT_LINES = 8


class _Network(ctypes.Structure):
    """`Network` of kernels/cpu/network.h."""

    _fields_ = (
        *(
            (name, ctypes.c_int64)
            for name in (
                "axes", "slices", "height", "width", "pitch",
                "c_in", "layer_width", "layers", "padding", "threads",
            )
        ),
        ("dilations", ctypes.POINTER(ctypes.c_int64)),
    )  # fmt: skip


@dataclass(frozen=True)
class CompiledEngine:
    """Computes one MSD block, and its final layer, on images of one size.

    Planes and grads are [rows, C, pitch] with the outer axes as rows: all channels of a row lie
    together. Nothing but rounding up a row to cache lines is added to the image.

    Raises:
        KernelError: on use, if the library cannot be built.
    """

    network: Network
    space: tuple[int, ...]
    padding: str
    dtype: torch.dtype

    @cached_property
    def pitch(self) -> int:
        """Elements from one channel of a row to the next."""
        per_line = LINE_BYTES // self.dtype.itemsize
        lines = -(-self.space[-1] // per_line)
        conflict = lines > CONFLICT_LINES and lines % CONFLICT_LINES == 0
        return per_line * (lines + conflict)

    @property
    def num_channels(self) -> int:
        return self.network.channels_before(self.network.depth)

    @property
    def slice_bytes(self) -> int:
        """Bytes of all channels in one slice of the outermost axis."""
        rows = math.prod(self.space[1:-1])
        return rows * self.num_channels * self.pitch * self.dtype.itemsize

    def new_planes(self, *leading: int, like: Tensor) -> Tensor:
        """Uninitialised buffer of all channels, [*leading, rows, C, pitch]."""
        rows = math.prod(self.space[:-1])
        planes = new_buffer(*leading, rows, self.num_channels, self.pitch, like=like)
        load(self.dtype).msd_use_large_pages(
            _pointer(planes), ctypes.c_int64(planes.numel() * self.dtype.itemsize)
        )
        return planes

    def pixels(self, planes: Tensor) -> Tensor:
        """View planes as images [*leading, C, *space]."""
        leading = planes.shape[:-3]
        rows = planes[..., : self.space[-1]].unflatten(-3, self.space[:-1])
        return rows.movedim(-2, len(leading))

    def load(self, grads: Tensor, pixels: Tensor) -> None:
        """Copy the gradients by all channels, [C, *space], to grads."""
        self.pixels(grads).copy_(pixels)

    def forward(self, planes: Tensor, weights: Sequence[Tensor], bias: Tensor) -> None:
        """Compute all channels of planes after the first c_in, whose pixels are given."""
        kept = [weight.contiguous() for weight in weights]
        self._call("msd_forward", planes, _pointers(kept), bias.contiguous())

    def backward(
        self, planes: Tensor, grads: Tensor, weights: Sequence[Tensor], gradients: BlockGradients
    ) -> None:
        """Add the gradients of one image; grads ends as the gradient by the input channels."""
        kept = [weight.contiguous() for weight in weights]
        self._call(
            "msd_backward",
            planes,
            grads,
            _pointers(kept),
            _pointers(gradients.weights),
            gradients.bias,
            ctypes.c_int(gradients.needs_input),
        )

    def forward_final(self, planes: Tensor, weight: Tensor, bias: Tensor, output: Tensor) -> None:
        """Write weight [c_out, C, 1] times planes plus bias [c_out] to output [c_out, *space]."""
        outputs = ctypes.c_int64(len(bias))
        self._call(
            "msd_final_forward", planes, weight.contiguous(), bias.contiguous(), outputs, output
        )

    def backward_final(
        self,
        planes: Tensor,
        weight: Tensor,
        grad_output: Tensor,
        grads: Tensor,
        grad_weight: Tensor | None,
    ) -> None:
        """Write the gradient by every channel to grads; add that by the weight to grad_weight."""
        self._call(
            "msd_final_backward",
            planes,
            weight.contiguous(),
            grad_output.contiguous(),
            ctypes.c_int64(len(grad_output)),
            grads,
            grad_weight,
        )

    def _call(self, name: str, *arguments: object) -> None:
        """Call a function of the library; ctypes releases the interpreter lock meanwhile."""
        network = _Network(
            len(self.space),
            self.space[0] if len(self.space) == 3 else 1,
            *self.space[-2:],
            self.pitch,
            self.network.c_in,
            self.network.width,
            self.network.depth,
            PADDINGS.index(self.padding),
            torch.get_num_threads(),
            (ctypes.c_int64 * self.network.depth)(*self.network.dilations),
        )
        given = [_pointer(value) for value in arguments]
        with record_function(name):  # else a profile shows nothing of what takes all the time
            status = getattr(load(self.dtype), name)(ctypes.byref(network), *given)
        if status != 0:
            # As torch says it where a tensor does not fit.
            raise RuntimeError(f"can't allocate memory for the workspace of {name}")


def _pointer(value: object) -> object:
    """A tensor's address as ctypes takes it; None is a null pointer."""
    return ctypes.c_void_p(_address(value)) if isinstance(value, Tensor) else value


def _pointers(tensors: Sequence[Tensor | None]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*map(_address, tensors))


def _address(tensor: Tensor | None) -> int | None:
    if tensor is None:
        return None
    assert tensor.is_contiguous()
    return tensor.data_ptr()
