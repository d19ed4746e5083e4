"""What this machine offers msdtool, and whether every kernel computes correctly."""

from msdtool.doctor.report import ABSENT, BROKEN, WORKS, Finding, examine

__all__ = ["ABSENT", "BROKEN", "WORKS", "Finding", "examine"]
