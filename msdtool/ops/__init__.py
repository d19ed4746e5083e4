"""Operations of an MSD network, one public function each."""

from msdtool.ops.block import msd_block, msd_module

__all__ = ["msd_block", "msd_module"]
