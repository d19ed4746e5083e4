"""Measure a trained network on pairs of images."""

from msdtool.evaluate.figure import draw, draw_reliability
from msdtool.evaluate.measure import Evaluation, evaluate, open_pairs, target_range
from msdtool.evaluate.parts import PartFiles

__all__ = [
    "Evaluation",
    "PartFiles",
    "draw",
    "draw_reliability",
    "evaluate",
    "open_pairs",
    "target_range",
]
