"""Every specialisation of every kernel: all of them are compiled for every architecture.

A family of kernels plugs in by adding the sources that its module in msdtool/ops can ask for.
"""

from msdtool.ops.kernels import Source

SOURCES: tuple[Source, ...] = ()
