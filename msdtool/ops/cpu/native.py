"""The block engine for CPUs in C++ (kernels/cpu); its twin in torch is `msdtool.ops.cpu.blocked`.

Both compute the same products in blocks of layers. Here every row of the image passes through the
caches once per block, register tiles read the operands in place, and threads synchronise only
between layers; see the comments in the sources.
"""

import ctypes
import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.profiler import record_function

from msdtool.border import RULES
from msdtool.errors import DoesNotFit
from msdtool.ops.checks import address_of
from msdtool.ops.cpu.buffers import new_buffer
from msdtool.ops.cpu.images import ImageEngine
from msdtool.ops.cpu.native_build import load
from msdtool.ops.engine import WORKSPACE_BYTES, BlockShape, Gradients, Parameters

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


class CompiledEngine(ImageEngine):
    """Computes a batch on the CPU, image by image, each by all threads.

    Planes and grads are [rows, C, pitch] with the outer axes as rows: all channels of a row lie
    together. Nothing but rounding up a row to cache lines is added to the image.

    Raises:
        ValueError: the tensors are not on the CPU.
        KernelError: on use, if the library cannot be built.
        DoesNotFit: on use, if there is not enough memory for the workspace.
    """

    def __init__(self, shape: BlockShape, like: Tensor) -> None:
        if like.device.type != "cpu":
            raise ValueError(f'impl "compiled" computes on the CPU; the input is on {like.device}')
        super().__init__(shape, like)
        self.dtype = like.dtype
        self.num_rows = math.prod(shape.space[:-1])

    @cached_property
    def pitch(self) -> int:
        """Elements from one channel of a row to the next."""
        per_line = LINE_BYTES // self.dtype.itemsize
        lines = -(-self.shape.space[-1] // per_line)
        conflict = lines > CONFLICT_LINES and lines % CONFLICT_LINES == 0
        return per_line * (lines + conflict)

    @property
    def slice_bytes(self) -> int:
        rows = math.prod(self.shape.space[1:-1])
        return rows * self.shape.num_channels * self.pitch * self.dtype.itemsize

    @property
    def workspace_bytes(self) -> int:
        return WORKSPACE_BYTES

    def new_buffer(self, *leading: int, like: Tensor) -> Tensor:
        planes = new_buffer(*leading, self.num_rows, self.shape.num_channels, self.pitch, like=like)
        if type(planes) is Tensor:  # a fake one has no pages
            load(self.dtype).msd_use_large_pages(
                _pointer(planes), ctypes.c_int64(planes.numel() * self.dtype.itemsize)
            )
        return planes

    def images(self, planes: Tensor) -> Tensor:
        space = self.shape.space
        rows = planes[..., : space[-1]].unflatten(-3, space[:-1])
        return rows.movedim(-2, planes.dim() - 3)

    def load(self, grads: Tensor, images: Tensor) -> None:
        self.images(grads).copy_(images)

    def forward_image(self, planes: Tensor, parameters: Parameters) -> None:
        kept = [weight.contiguous() for weight in parameters.weights]
        self._call("msd_forward", planes, _pointers(kept), parameters.bias.contiguous())

    def backward_image(
        self, planes: Tensor, grads: Tensor, parameters: Parameters, gradients: Gradients
    ) -> None:
        kept = [weight.contiguous() for weight in parameters.weights]
        self._call(
            "msd_backward",
            planes,
            grads,
            _pointers(kept),
            _pointers(gradients.weights),
            gradients.bias,
            ctypes.c_int(gradients.input is not None),
        )

    def forward_final_image(
        self, planes: Tensor, weight: Tensor, bias: Tensor, output: Tensor
    ) -> None:
        outputs = ctypes.c_int64(len(bias))
        self._call(
            "msd_final_forward", planes, weight.contiguous(), bias.contiguous(), outputs, output
        )

    def backward_final_image(
        self,
        planes: Tensor,
        weight: Tensor,
        grad_output: Tensor,
        grads: Tensor,
        grad_weight: Tensor | None,
    ) -> None:
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
        shape = self.shape
        network = _Network(
            len(shape.space),
            shape.space[0] if len(shape.space) == 3 else 1,
            *shape.space[-2:],
            self.pitch,
            shape.c_in,
            shape.width,
            shape.depth,
            RULES[shape.padding],
            torch.get_num_threads(),
            (ctypes.c_int64 * shape.depth)(*shape.dilations),
        )
        given = [_pointer(value) for value in arguments]
        with record_function(name):  # else a profile shows nothing of what takes all the time
            status = getattr(load(self.dtype), name)(ctypes.byref(network), *given)
        if status != 0:
            raise DoesNotFit(f"there is not enough memory for the workspace of {name}")


def _pointer(value: object) -> object:
    """A tensor's address as ctypes takes it; None is a null pointer."""
    return ctypes.c_void_p(_address(value)) if isinstance(value, Tensor) else value


def _pointers(tensors: Sequence[Tensor | None]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*map(_address, tensors))


def _address(tensor: Tensor | None) -> int | None:
    if tensor is None:
        return None
    assert tensor.is_contiguous()
    return address_of(tensor)
