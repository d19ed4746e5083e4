"""Measure a trained network on pairs of images."""

from msdtool.evaluate.figure import draw
from msdtool.evaluate.measure import Evaluation, evaluate, open_pairs, target_range
from msdtool.evaluate.parts import PartFiles

__all__ = ["Evaluation", "PartFiles", "draw", "evaluate", "open_pairs", "target_range"]
