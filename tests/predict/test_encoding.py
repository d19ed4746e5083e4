"""Values as pixels of a chosen type and range."""

import logging

import numpy as np
import pytest

from msdtool.data.metadata import Packing
from msdtool.errors import ConfigError, Error
from msdtool.predict.encoding import Encoder, Encoding

VALUES = np.array([-0.2, 0.0, 0.25, 0.5, 0.75, 1.0, 1.2], np.float32)


def encode(values, dtype, packing=None):
    encoder = Encoder(np.dtype(dtype), packing, "a.tif")
    return encoder(values), encoder


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_the_ends_of_the_range_are_the_smallest_and_largest_integer(dtype):
    packing = Encoding("input", (-1.0, 3.0)).packing(np.dtype(dtype))
    limits = np.iinfo(dtype)
    ends = np.array([limits.min, limits.max]) * packing.slope + packing.offset
    np.testing.assert_allclose(ends, [-1.0, 3.0], rtol=1e-6)
    pixels, _ = encode(np.array([-1.0, 3.0], np.float32), dtype, packing)
    assert pixels.tolist() == [limits.min, limits.max]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_slope_and_offset_give_the_values_back(dtype):
    packing = Encoding(dtype, (0.0, 1.0)).packing(np.dtype(dtype))
    pixels, encoder = encode(VALUES, dtype, packing)
    found = pixels * packing.slope + packing.offset
    np.testing.assert_allclose(found, VALUES.clip(0, 1), atol=packing.slope / 2 + 1e-7)
    assert encoder.clipped == 2


def test_without_a_range_values_are_rounded_to_even_as_they_are():
    pixels, encoder = encode(np.array([0.5, 1.5, 2.5, 254.4, 254.6, 300, -1], np.float32), "uint8")
    assert pixels.tolist() == [0, 2, 2, 254, 255, 255, 0]
    assert encoder.clipped == 2


def test_half_precision_does_not_overflow():
    pixels, encoder = encode(np.array([1e6, -1e6, 1 / 3], np.float32), "float16")
    assert pixels.tolist() == [65504.0, -65504.0, np.float16(1 / 3)]
    assert encoder.clipped == 2


def test_integers_hold_no_nan():
    with pytest.raises(Error, match=r"a\.tif: .* not finite, which uint8 cannot represent"):
        encode(np.array([0.0, np.nan], np.float32), "uint8")


def test_what_did_not_fit_is_said(caplog):
    _, encoder = encode(VALUES, "uint8")
    with caplog.at_level(logging.WARNING):
        encoder.report()
    assert caplog.messages == []  # -0.2 is rounded to 0
    _, encoder = encode(VALUES * 1000, "uint8")
    with caplog.at_level(logging.WARNING):
        encoder.report()
    assert "5 values are outside of what uint8 holds" in caplog.text


@pytest.mark.parametrize(
    ("dtype", "input", "expected"),
    [
        (None, "uint16", "float32"),
        ("uint8", "uint16", "uint8"),
        ("input", "uint16", "uint16"),
        ("input", ">i2", "int16"),
        ("input", "float64", "float64"),
    ],
)
def test_the_type_of_a_result(dtype, input, expected):
    found = Encoding(dtype).dtype_for(np.dtype(input), np.dtype("float32"))
    assert found == np.dtype(expected)


@pytest.mark.parametrize(
    ("dtype", "scale", "message"),
    [
        ("int8", None, "dtype: got 'int8'; allowed: float32, float16, uint16, uint8, input"),
        ("uint8", "1", "scale: got '1'; expected LOW:HIGH"),
        ("uint8", "1:0", "scale: got '1:0'"),
        ("uint8", "a:b", "scale: got 'a:b'"),
        ("uint8", "0:inf", "scale: got '0:inf'"),
        (None, "0:1", "scale: 0:1: only integers need a range"),
        ("float16", "0:1", "scale: 0:1: only integers need a range"),
    ],
)
def test_what_is_no_encoding(dtype, scale, message):
    with pytest.raises(ConfigError) as error:
        Encoding.parse(dtype, scale)
    assert error.value.message.startswith(message)


def test_a_range_needs_an_input_of_integers():
    with pytest.raises(ConfigError, match="the results have the type float32, and only integers"):
        Encoding("input", (0.0, 1.0)).packing(np.dtype("float32"))
    with pytest.raises(ConfigError, match="the input has the type bool"):
        Encoding("input").dtype_for(np.dtype(bool), np.dtype("float32"))


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        (Encoding("uint8"), "uint8 cannot represent the label 300"),
        (Encoding("float32"), "the results are labels; choose uint8 or uint16"),
        (Encoding("input"), "the results are labels"),
        (Encoding("uint16", (0, 1)), "the results are labels, which are written as they are"),
    ],
)
def test_labels_are_integers(encoding, message):
    with pytest.raises(ConfigError, match=message):
        encoding.check([0, 300])
    encoding.check([])  # a regression


@pytest.mark.parametrize("encoding", [Encoding(), Encoding("uint16")])
def test_labels_that_fit(encoding):
    encoding.check([0, 300])


def test_float32_values_are_handed_on():
    pixels, _ = encode(VALUES, "float32", Packing(1, 0))
    assert pixels is VALUES
