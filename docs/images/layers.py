"""Draw layers.png, which shows what some layers of `msdtool.nn` do to a real image.

Run it from the root of the checkout, with the extra "demo": ``python docs/images/layers.py``. The
image is "camera" of scikit-image; nothing is downloaded or trained, and it takes a few seconds.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from skimage import data
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from msdtool.nn.encoding import GramMatrix
from msdtool.nn.layers import PixelShuffle_ICNR
from msdtool.nn.semifield import (
    GenericClosing,
    GenericConv,
    QuadraticKernelIso2D,
    SelectSemifield,
    SubtractSemifield,
)
from msdtool.nn.streaming import TemporalLowPassFilterRecursive

mpl.use("Agg")
import matplotlib.pyplot as plt

VIEW = (slice(40, 360), slice(80, 400))  # of the full image, which is then downsampled by 2
PATCH = 32  # edge of a patch of texture, in pixels of the view
GRASS = (255, 270)  # row and column of the texture that all patches are compared with


def camera() -> Tensor:
    return torch.from_numpy(data.camera().astype(np.float32) / 255)[None, None]


def closing(image: Tensor) -> Tensor:
    """Fill dark, narrow structures: a dilation and an erosion with the same paraboloid."""
    kernel = QuadraticKernelIso2D(1, 1, kernel_size=7, init={"var": 200.0})
    dilation = SelectSemifield.tropical_max().dynamic()
    erosion = SelectSemifield.tropical_min_negated().dynamic()
    return GenericClosing(kernel, dilation, erosion, padding="same")(image)


def soft_dilation(image: Tensor) -> Tensor:
    kernel = QuadraticKernelIso2D(1, 1, kernel_size=7, init={"var": 60.0})
    return GenericConv(kernel, SubtractSemifield.log(30).dynamic(), padding="same")(image)


def texture_distance(view: Tensor, stride: int = 4) -> Tensor:
    """Compare the Gram matrix of each patch, of differences in four directions, with grass."""
    filters = torch.zeros(8, 1, 5, 5)
    for i, (dy, dx) in enumerate([(0, 1), (1, 0), (1, 1), (1, -1)]):
        for step in (1, 2):
            filters[2 * i + step - 1, 0, 2, 2] = -1
            filters[2 * i + step - 1, 0, 2 + step * dy, 2 + step * dx] = 1
    features = conv2d(view, filters, padding=2)

    def gram(patches: Tensor) -> Tensor:  # on a log scale, since contrasts differ by factors
        return torch.log(GramMatrix()(patches).clamp(min=1e-5))

    windows = features.unfold(2, PATCH, stride).unfold(3, PATCH, stride)
    _, channels, rows, columns = windows.shape[:4]
    patches = windows[0].permute(1, 2, 0, 3, 4).reshape(-1, channels, PATCH, PATCH)
    y, x = GRASS
    target = gram(features[..., y : y + PATCH, x : x + PATCH])
    return (gram(patches) - target).square().mean((1, 2)).sqrt().reshape(rows, columns)


def enlarge(detail: Tensor, blur: bool) -> Tensor:
    """Upsample by an untrained layer; only its gain is set to 1."""
    layer = PixelShuffle_ICNR(1, 1, scale=2, blur=blur, norm_type=None, act_cls=None)
    weight = layer[0][0].weight
    weight /= weight[0].clone()  # ICNR initialises all four alike
    return layer(detail)


def denoise(full: Tensor, frames: int = 60) -> tuple[Tensor, Tensor]:
    """Filter a noisy sequence of a view that drifts by one pixel in 8 frames, in chunks of 7."""
    small = avg_pool2d(full, 2)[0, 0]
    views = [small[20:180, 40 + i // 8 : 200 + i // 8] for i in range(frames)]
    series = torch.stack(views) + 0.25 * torch.randn(frames, 160, 160)
    layer = TemporalLowPassFilterRecursive(tau=0.008)  # eight frames
    return series[-1], layer.run(series, dt=7)[0][0, 0, -1]


@torch.no_grad()
def main() -> None:
    torch.manual_seed(0)
    full = camera()
    view = full[(..., *VIEW)]
    image = avg_pool2d(view, 2)
    detail = image[..., 45:77, 66:98]
    noisy, filtered = denoise(full)
    grey = {"cmap": "gray", "vmin": 0, "vmax": 1}
    panels = [
        ("input", image, grey),
        ("semifield: GenericClosing", closing(image), grey),
        ("semifield: SubtractSemifield.log", soft_dilation(image), {"cmap": "gray"}),
        ("encoding: GramMatrix\n(distance to the grass's texture)", texture_distance(view), {}),
        ("layers: PixelShuffle_ICNR", enlarge(detail, blur=False), grey),
        ("layers: PixelShuffle_ICNR, blur=True", enlarge(detail, blur=True), grey),
        ("streaming: last of 60 noisy frames", noisy, grey),
        ("streaming:\nTemporalLowPassFilterRecursive", filtered, grey),
    ]
    figure, axes = plt.subplots(2, 4, figsize=(12, 6.6), layout="constrained")
    for axis, (title, picture, style) in zip(axes.flat, panels, strict=True):
        axis.imshow(picture.squeeze(), interpolation="nearest", **style)
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)


if __name__ == "__main__":
    main()
