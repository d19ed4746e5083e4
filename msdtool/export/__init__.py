"""Trained networks as files that other programs run without msdtool."""

from msdtool.export.exporting import Exported, export

__all__ = ["Exported", "export"]
