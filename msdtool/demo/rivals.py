"""Methods that learn nothing, beside the network of a demo: figures and a picture.

Total variation (Chambolle 2004) and non-local means (Buades et al. 2005) of scikit-image; the
strength of each is the one with the best mean PSNR on the validation images, for which it is shown
their ground truth.
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
import torch

from msdtool.demo.foam import NUM_SPLITS, TUNED_ON
from msdtool.demo.tomograms import disc
from msdtool.demo.tomography import Array
from msdtool.measure.metrics import psnr
from msdtool.report.methods import save_methods

Images = dict[str, Array]
Method = Callable[[Array, float], Array]

STRENGTHS = {
    "total variation": (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0),
    "non-local means": (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6),
}


class Comparison(NamedTuple):
    """The images of a demo, by name.

    Attributes:
        scans: what the network got.
        truth: what it should have made of them.
        predictions: what it made of them.
        tuning_scans: those that the strengths of other methods are tuned on.
        tuning_truth: the same without noise.
        shown: the name of the one in the picture.
    """

    scans: Images
    truth: Images
    predictions: Images
    tuning_scans: Images
    tuning_truth: Images
    shown: str


def tomograms(folder: Path) -> Comparison:
    """The demo of tomograms, with predictions/ of the test images."""
    return Comparison(
        scans=_read(folder / "test/noisy"),
        truth=_read(folder / "test/clean"),
        predictions=_read(folder / "predictions"),
        tuning_scans=_read(folder / "validation/noisy"),
        tuning_truth=_read(folder / "validation/clean"),
        shown="camera_2.tif",
    )


def foam(folder: Path) -> Comparison:
    """The demo of Noise2Inverse, with cleaned.tif; every fourth slice that trained is compared."""
    splits = [tifffile.imread(folder / f"split_{k + 1}.tif") for k in range(NUM_SPLITS)]
    scan, truth = np.mean(splits, axis=0), tifffile.imread(folder / "clean.tif")

    def slices(volume: Array, indices: Iterable[int]) -> Images:
        return {str(z): volume[z] for z in indices}

    shown = [z for z in range(2, len(truth), 4) if z not in TUNED_ON]
    return Comparison(
        scans=slices(scan, shown),
        truth=slices(truth, shown),
        predictions=slices(tifffile.imread(folder / "cleaned.tif"), shown),
        tuning_scans=slices(scan, TUNED_ON),
        tuning_truth=slices(truth, TUNED_ON),
        shown=str(shown[2]),
    )


def compare(images: Comparison, figure: Path) -> dict[str, float]:
    """Draw an image, a detail and the errors of all methods; return the methods' figures.

    Args:
        images: of a demo.
        figure: the PNG to write.

    Returns:
        The mean PSNR in dB over the images, at a data range of 1 and inside the disc that the
        tomograph sees, by method.
    """
    results = {"scan": images.scans}
    for name, method in (
        ("total variation", total_variation),
        ("non-local means", non_local_means),
    ):
        strength = _tuned(method, STRENGTHS[name], images)
        results[name] = {key: method(scan, strength) for key, scan in images.scans.items()}
    results["MSD network"] = images.predictions
    truth = images.truth[images.shown]
    shown = {name: found[images.shown] for name, found in results.items()}
    notes = {name: f"PSNR {_psnr(image, truth):.1f} dB" for name, image in shown.items()}
    save_methods(figure, shown, notes, truth)
    return {name: _mean_psnr(found, images.truth) for name, found in results.items()}


def total_variation(image: Array, strength: float) -> Array:
    from skimage.restoration import denoise_tv_chambolle  # noqa: PLC0415 - an extra

    result: Array = denoise_tv_chambolle(image, weight=strength)
    return result


def non_local_means(image: Array, strength: float) -> Array:
    from skimage.restoration import denoise_nl_means  # noqa: PLC0415 - an extra

    result: Array = denoise_nl_means(image, h=strength, patch_size=5, patch_distance=6)
    return result


def _tuned(method: Method, strengths: Iterable[float], images: Comparison) -> float:
    """The strength that is best on the images to tune on."""

    def quality(strength: float) -> float:
        found = {key: method(scan, strength) for key, scan in images.tuning_scans.items()}
        return _mean_psnr(found, images.tuning_truth)

    return max(strengths, key=quality)


def _mean_psnr(images: Images, truth: Images) -> float:
    return float(np.mean([_psnr(images[key], truth[key]) for key in truth]))


def _psnr(image: Array, truth: Array) -> float:
    difference = (image.astype(np.float64) - truth)[disc(len(truth))]
    return float(psnr(torch.from_numpy(difference), data_range=1.0))


def _read(folder: Path) -> Images:
    return {path.name: tifffile.imread(path).squeeze() for path in sorted(folder.glob("*.tif"))}


def main() -> None:
    """Compare the methods in the folder of a demo, the only argument."""
    folder = Path(sys.argv[1])
    images = foam(folder) if (folder / "split_1.tif").exists() else tomograms(folder)
    for name, quality in compare(images, folder / "result.png").items():
        print(f"{name:16} {quality:.2f} dB")


if __name__ == "__main__":
    main()
