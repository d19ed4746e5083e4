"""From path specifiers to batches."""

from msdtool.data.datasets import ImageDataset
from msdtool.data.interfaces import Pairs, Sample
from msdtool.data.labels import IGNORED, LabelMap
from msdtool.data.specifiers import Source
from msdtool.data.stacks import ImageStack
from msdtool.data.subsets import SubsetOf

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
