"""Operations of an MSD network, one public function each."""

from msdtool.ops.block import msd_block, msd_module
from msdtool.ops.out_of_core.module import msd_module_streamed

__all__ = ["msd_block", "msd_module", "msd_module_streamed"]
