"""How images are scaled, as plain data."""

import pytest

from msdtool.scaling import Scaling


@pytest.mark.parametrize(
    "how, text",
    [
        (Scaling(), "mean 0 and standard deviation 1, of the training set"),
        (Scaling(per="image"), "mean 0 and standard deviation 1, of each image"),
        (
            Scaling("percentile", percentiles=(1.0, 99.8)),
            "the percentiles 1 and 99.8 become 0 and 1, of the training set",
        ),
        (Scaling("range", range=(0.0, 4095.0)), "0 and 4095 become 0 and 1"),
        (Scaling("none"), "none"),
    ],
)
def test_it_survives_as_plain_data_and_is_told_in_words(how, text):
    content = how.to_dict()
    assert Scaling.from_dict(content) == how
    assert all(isinstance(value, (str, list)) for value in content.values())
    assert str(how) == text


def test_the_usual_way_takes_no_room():
    assert Scaling().to_dict() == {}


@pytest.mark.parametrize(
    "content, message",
    [
        (3, "scaling is 3; expected keys and values"),
        ({"gamma": 2}, "scaling.gamma is unknown; update msdtool"),
        ({"method": "zscore"}, "scaling.method is 'zscore'; expected 'mean_std', 'percentile'"),
        ({"per": 1}, "scaling.per is 1; expected 'dataset', 'image'"),
        ({"per": "image", "method": "none"}, "scaling.per is image; none is the same"),
        ({"method": "range"}, r"scaling.range is \[\]; expected two rising numbers"),
        ({"method": "range", "range": [2.0, 1.0]}, "expected two rising numbers"),
        ({"method": "range", "range": [0.0, float("nan")]}, "expected two rising numbers"),
        ({"range": [0.0, 1.0]}, "expected none, of the method mean_std"),
        ({"target_range": [0.0, 1.0]}, "expected none, of the method mean_std"),
        ({"method": "percentile", "percentiles": [1.0, 101.0]}, "expected 0 to 100"),
    ],
)
def test_what_cannot_be_is_named(content, message):
    with pytest.raises(ValueError, match=message):
        Scaling.from_dict(content)
