"""Simulated tomography: projections with photon noise, and their reconstruction.

scikit-image computes both; it is an optional dependency.
"""

from importlib.util import find_spec
from typing import Any

import numpy as np

from msdtool.errors import ConfigError

Array = np.ndarray[Any, np.dtype[np.float32]]
Angles = np.ndarray[Any, np.dtype[np.float64]]
"""In degrees."""


def require_scikit_image() -> None:
    """Check that scikit-image is installed.

    Raises:
        ConfigError: it is not.
    """
    if find_spec("skimage") is None:
        raise ConfigError("the demo needs scikit-image: pip install 'msdtool[demo]'")


def measure(
    image: Array, views: int, photons: float, absorption: float, rng: np.random.Generator
) -> tuple[Any, Angles]:
    """Measure an image [H, W] with photon noise.

    Args:
        image: the attenuation of the object.
        views: number of projections over half a turn.
        photons: mean number of photons per detector pixel without object.
        absorption: the largest line integral is scaled to this; exp(-absorption) of the photons
            pass along that line.
        rng: source of the photon noise.

    Returns:
        Noisy line integrals in the scale of the image, [detector pixels, views], and the angles of
        the views.
    """
    from skimage.transform import radon  # noqa: PLC0415 - an extra

    angles = np.linspace(0, 180, views, endpoint=False)
    line_integrals = radon(image, angles)
    scale = absorption / line_integrals.max()
    counts = rng.poisson(photons * np.exp(-scale * line_integrals))
    return -np.log(np.maximum(counts, 1) / photons) / scale, angles


def reconstruct(line_integrals: Any, angles: Angles) -> Array:
    """Reconstruct an image [H, W] by filtered backprojection."""
    from skimage.transform import iradon  # noqa: PLC0415 - an extra

    image: Array = iradon(line_integrals, angles, filter_name="ramp").astype(np.float32)
    return image
