"""From path specifiers to batches."""

from msdtool.data.datasets import ImageDataset, Pairs, Sample, SubsetOf
from msdtool.data.labels import IGNORED, LabelMap
from msdtool.data.specifiers import Source
from msdtool.data.stacks import ImageStack

__all__ = [
    "IGNORED",
    "ImageDataset",
    "ImageStack",
    "LabelMap",
    "Pairs",
    "Sample",
    "Source",
    "SubsetOf",
]
