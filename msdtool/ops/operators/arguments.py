"""Arguments of the private operators."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from msdtool.ops import engines
from msdtool.ops.engine import BlockShape, Engine, Parameters, shape_of
from msdtool.ops.operators import torch_internals

_PLAIN = frozenset((Tensor, torch.nn.Parameter))


class Call(NamedTuple):
    """Arguments of the private operators, all checked.

    Attributes:
        input: [B, c_in, *space], in a dtype that the engine takes, as the parameters.
        weights, bias, final_weight, final_bias: as in `Parameters`.
        dilations, padding: as in `shape_of`.
        impl: name of an engine.
    """

    input: Tensor
    weights: Sequence[Tensor]
    bias: Tensor
    final_weight: Tensor | None
    final_bias: Tensor | None
    dilations: Sequence[int]
    padding: str
    impl: str

    @property
    def parameters(self) -> Parameters:
        """Parameters of the block and of its final layer."""
        return Parameters(*self[1:5])

    @property
    def engine_type(self) -> type[Engine]:
        """The engine of that name."""
        return engines.engine_type(self.impl, self.input.device)

    @property
    def shape(self) -> BlockShape:
        """Sizes of the block and the batch."""
        return fixed_shape(self.input.shape, self.parameters, self.dilations, self.padding)


def fixed_shape(
    size: Sequence[int], parameters: Parameters, dilations: Sequence[int], padding: str
) -> BlockShape:
    """`shape_of`; sizes that a graph leaves open become fixed, as the planes depend on them."""
    return shape_of([int(n) for n in size], parameters, dilations, padding)


def is_plain(*tensors: Tensor) -> bool:
    """Whether nothing but autograd takes part in what is computed with tensors, which have memory.

    Then passes are called as they are: the dispatcher takes 0.2 ms to hand some 30 tensors to
    Python and back, a tenth of the time of an image of 64 x 64 pixels.
    """
    return (
        _PLAIN.issuperset(map(type, tensors))
        and not torch.compiler.is_compiling()
        and not torch_internals.modes_active()
        and not torch_internals.transforms_active()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]  # public all the same
        and not torch_internals.is_profiled()
    )
