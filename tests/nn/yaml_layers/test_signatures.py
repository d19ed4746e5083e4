import pytest

from msdtool.nn.yaml_layers.registry import (
    ACTIVATIONS,
    KERNELS,
    LAYERS,
    NESTED,
    NORMS,
    OPERATIONS,
    POOLS,
    SEMIFIELDS,
)
from msdtool.nn.yaml_layers.signatures import did_you_mean, hints, parameters, signature
from msdtool.plain_data import type_text

ALL = {**LAYERS, **NORMS, **ACTIVATIONS, **KERNELS, **SEMIFIELDS, **POOLS, **OPERATIONS}


@pytest.mark.parametrize("name", ALL)
def test_every_argument_of_every_layer_has_a_type(name):
    types = hints(ALL[name])
    converted = {*NESTED, "norm_type", "layers"}
    for key in parameters(ALL[name]):
        assert key in types
        assert key in converted or type_text(types[key]), f"{key}: {types[key]}"


def test_signatures_show_defaults_as_yaml_has_them_and_what_is_passed_on():
    assert signature("PixelShuffle_ICNR", LAYERS["PixelShuffle_ICNR"]) == (
        "PixelShuffle_ICNR(ni, nf=null, scale=2, blur=false, norm_type=Weight, act_cls=ReLU)"
    )
    assert "dilation=1" in signature("SEBlock", LAYERS["SEBlock"])
    assert "device" not in signature("ConvLayer", LAYERS["ConvLayer"])


def test_the_nearest_name_is_offered_if_one_is_near():
    assert did_you_mean("relu", ["ReLU", "Tanh"]) == "; did you mean 'ReLU'?"
    assert did_you_mean("xyz", ["ReLU", "Tanh"]) == "."
