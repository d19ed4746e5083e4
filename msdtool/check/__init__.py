"""Examine an experiment's data before training on it."""

from msdtool.check.examine import check
from msdtool.check.report import Report

__all__ = ["Report", "check"]
