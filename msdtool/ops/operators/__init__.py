"""MSD block and module as operators of torch: ``torch.ops.msdtool.msd_block`` and ``.msd_module``.

Torch's transformations see a registered operator as a whole: `torch.compile` and `torch.export`
keep it in their graphs, autocast casts its arguments, `torch.func` differentiates and maps it, fake
tensors go through it without memory, and profiles show its name.

The two operators check their arguments, choose the engine and leave the work to private ones:
``_network`` computes the result; if autograd asks for derivatives, ``_record``, which keeps all
channels, and ``_differentiate`` take its place.
"""

from msdtool.ops.operators import rules  # noqa: F401 - registers what torch asks beside results
from msdtool.ops.operators.arguments import is_plain
from msdtool.ops.operators.compute import compute_block, compute_module
from msdtool.ops.operators.schemas import msd_block, msd_module

__all__ = ["compute_block", "compute_module", "is_plain", "msd_block", "msd_module"]
