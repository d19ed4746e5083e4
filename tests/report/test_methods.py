import numpy as np
from matplotlib.axes import Axes

from msdtool.report.methods import save_methods
from tests.helpers import PNG_START


def test_images_details_and_errors_are_shown_in_the_window_of_the_truth(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(
        Axes, "imshow", lambda self, image, vmin, vmax, **_: shown.append((image, vmin, vmax))
    )
    truth = np.linspace(0, 1, 64).reshape(8, 8)
    save_methods(tmp_path / "a.png", {"a": truth + 0.5, "b": truth}, {"a": "1", "b": "2"}, truth)
    assert (tmp_path / "a.png").read_bytes().startswith(PNG_START)
    low, high = np.percentile(truth, (0.5, 99.5))
    images, errors = shown[:6], shown[6:]
    assert {(vmin, vmax) for _, vmin, vmax in images} == {(low, high)}
    assert [image.shape for image, *_ in images] == [(8, 8), (2, 2)] * 3
    np.testing.assert_array_equal(images[1][0], truth[3:5, 3:5] + 0.5)
    np.testing.assert_allclose(errors[0][0], 0.5)
    np.testing.assert_allclose(errors[1][0], 0.0)
