"""Networks with methods for training them from Python; the classes of the original package.

They work on batches [B, C, H, W], or [B, C, D, H, W] with ``ndim=3``, from any iterable of
(input, target) or (input, target, mask) such as a `torch.utils.data.DataLoader` of an
`ImageDataset`.
"""

from msdtool.models.base import MSDModel
from msdtool.models.regression import MSDRegressionModel
from msdtool.models.segmentation import MSDSegmentationModel

__all__ = ["MSDModel", "MSDRegressionModel", "MSDSegmentationModel"]
