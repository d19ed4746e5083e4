"""Methods that learn nothing, beside the network of the tomograms demo: figures and a picture.

Total variation (Chambolle 2004) and non-local means (Buades et al. 2005) of scikit-image; the
strength of each is the one with the best mean PSNR on the validation images.
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import tifffile
import torch

from msdtool.demo.tomograms import disc
from msdtool.demo.tomography import Array
from msdtool.measure.metrics import psnr
from msdtool.report.methods import save_methods

Images = dict[str, Array]
Method = Callable[[Array, float], Array]

STRENGTHS = {
    "total variation": (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6),
    "non-local means": (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4),
}
SHOWN = "camera_2.tif"


def compare(folder: Path, figure: Path) -> dict[str, float]:
    """Draw a test image, a detail and the errors of all methods; return the methods' figures.

    Args:
        folder: of the demo, with predictions/ of the test images.
        figure: the PNG to write.

    Returns:
        The mean PSNR in dB over the test images, at a data range of 1 and inside the disc that the
        tomograph sees, by method.
    """
    scans, truth = _read(folder / "test/noisy"), _read(folder / "test/clean")
    results = {"scan": scans}
    for name, method in (
        ("total variation", total_variation),
        ("non-local means", non_local_means),
    ):
        strength = _tuned(method, STRENGTHS[name], folder)
        results[name] = {key: method(scan, strength) for key, scan in scans.items()}
    results["MSD network"] = _read(folder / "predictions")
    shown = {name: images[SHOWN] for name, images in results.items()}
    notes = {name: f"PSNR {_psnr(image, truth[SHOWN]):.1f} dB" for name, image in shown.items()}
    save_methods(figure, shown, notes, truth[SHOWN])
    return {name: _mean_psnr(images, truth) for name, images in results.items()}


def total_variation(image: Array, strength: float) -> Array:
    from skimage.restoration import denoise_tv_chambolle  # noqa: PLC0415 - an extra

    result: Array = denoise_tv_chambolle(image, weight=strength)
    return result


def non_local_means(image: Array, strength: float) -> Array:
    from skimage.restoration import denoise_nl_means  # noqa: PLC0415 - an extra

    result: Array = denoise_nl_means(image, h=strength, patch_size=5, patch_distance=6)
    return result


def _tuned(method: Method, strengths: Iterable[float], folder: Path) -> float:
    """The strength that is best on the validation images."""
    scans, truth = _read(folder / "validation/noisy"), _read(folder / "validation/clean")

    def quality(strength: float) -> float:
        return _mean_psnr({key: method(scan, strength) for key, scan in scans.items()}, truth)

    return max(strengths, key=quality)


def _mean_psnr(images: Images, truth: Images) -> float:
    return float(np.mean([_psnr(images[key], truth[key]) for key in truth]))


def _psnr(image: Array, truth: Array) -> float:
    difference = (image.astype(np.float64) - truth)[disc(len(truth))]
    return float(psnr(torch.from_numpy(difference), data_range=1.0))


def _read(folder: Path) -> Images:
    return {path.name: tifffile.imread(path).squeeze() for path in sorted(folder.glob("*.tif"))}


def main() -> None:
    """Compare the methods in the folder of the demo, the only argument."""
    folder = Path(sys.argv[1])
    for name, quality in compare(folder, folder / "result.png").items():
        print(f"{name:16} {quality:.2f} dB")


if __name__ == "__main__":
    main()
