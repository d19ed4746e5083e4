import math

from msdtool.report import reliability
from msdtool.report.reliability import save_reliability
from tests.helpers import PNG_START

RESULTS = {
    "expected_calibration_error": 0.125,
    "confidence": [math.nan, 0.4, 0.9],
    "accuracy": [math.nan, 0.3, 0.75],
    "pixels": [0, 10, 30],
}


def test_the_curve_is_accuracy_over_confidence_above_the_fraction_of_pixels(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(reliability, "save_figure", lambda _path, figure: figures.append(figure))
    save_reliability(tmp_path / "a.png", RESULTS)
    curve, pixels = figures[0].axes
    assert curve.get_lines()[1].get_xydata().tolist()[1:] == [[0.4, 0.3], [0.9, 0.75]]
    assert pixels.patches[0].get_data().values.tolist() == [0, 0.25, 0.75]
    assert curve.get_title() == "expected calibration error 0.125"


def test_no_pixels_can_be_drawn(tmp_path):
    nothing = {**RESULTS, "expected_calibration_error": math.nan, "pixels": [0, 0, 0]}
    save_reliability(tmp_path / "a.png", nothing)
    assert (tmp_path / "a.png").read_bytes().startswith(PNG_START)
