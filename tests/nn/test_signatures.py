from collections.abc import Mapping
from typing import Any, Literal

import pytest

from msdtool.nn.registry import (
    ACTIVATIONS,
    KERNELS,
    LAYERS,
    NESTED,
    NORMS,
    OPERATIONS,
    POOLS,
    SEMIFIELDS,
)
from msdtool.nn.signatures import did_you_mean, fits, hints, parameters, signature, type_text

ALL = {**LAYERS, **NORMS, **ACTIVATIONS, **KERNELS, **SEMIFIELDS, **POOLS, **OPERATIONS}


@pytest.mark.parametrize("name", ALL)
def test_every_argument_of_every_layer_has_a_type(name):
    types = hints(ALL[name])
    converted = {*NESTED, "norm_type", "layers"}
    for key in parameters(ALL[name]):
        assert key in types
        assert key in converted or type_text(types[key]), f"{key}: {types[key]}"


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, int, True),
        (True, int, False),
        (1, bool, False),
        (False, bool, True),
        (1, float, True),
        (1.5, int, False),
        (True, float, False),
        ("a", str, True),
        (None, int | None, True),
        (None, int, False),
        ([1, 2], int | tuple[int, ...], True),
        ([1, "a"], tuple[int, ...], False),
        (3, tuple[int, int], False),
        ([[1, 2]], tuple[tuple[int, int], ...], True),
        ("same", Literal["same", "valid"], True),
        ("none", Literal["same", "valid"], False),
        ({"a": 1}, Mapping[str, int], True),
        ({"a": 1}, list[int], False),
        (object(), Any, True),
        ("a", type, False),
    ],
)
def test_values_fit_the_types_they_are_of(value, hint, expected):
    assert fits(value, hint) == expected


def test_types_are_told_in_words():
    assert type_text(int | tuple[int, ...] | None) == "a whole number or a list or null"
    assert type_text(Literal["a", "b"]) == "'a', 'b'"


def test_signatures_show_defaults_as_yaml_has_them_and_what_is_passed_on():
    assert signature("PixelShuffle_ICNR", LAYERS["PixelShuffle_ICNR"]) == (
        "PixelShuffle_ICNR(ni, nf=null, scale=2, blur=false, norm_type=Weight, act_cls=ReLU)"
    )
    assert "dilation=1" in signature("SEBlock", LAYERS["SEBlock"])
    assert "device" not in signature("ConvLayer", LAYERS["ConvLayer"])


def test_the_nearest_name_is_offered_if_one_is_near():
    assert did_you_mean("relu", ["ReLU", "Tanh"]) == "; did you mean 'ReLU'?"
    assert did_you_mean("xyz", ["ReLU", "Tanh"]) == "."
