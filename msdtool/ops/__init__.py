"""Operations of an MSD network, one public function each."""

from msdtool.ops.block import check_dilations, msd_block, msd_module

__all__ = ["check_dilations", "msd_block", "msd_module"]
