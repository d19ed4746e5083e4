import pytest
import torch
from torch import nn

from msdtool.nn import layers, semifield
from msdtool.nn.yaml_layers.chain import plan_chain
from msdtool.nn.yaml_layers.registry import LAYERS, make_chain, make_layer, split

NEEDED = {
    "Cat": {"layers": ["ReLU", ["Tanh", "ReLU"]]},
    "GenericClosing": {"kernel": {"QuadraticKernelIso2D": {"kernel_size": 3}}},
    "GenericConv": {
        "kernel": {"LearnedKernel2D": {"kernel_size": 3}},
        "conv": {"SubtractSemifield.log": {"mu": 2.0}},
    },
    "SEModule": {"reduction": 2},
    "SEResNeXtBlock": {"groups": 4, "base_width": 16},
    "SequentialEx": {"layers": ["ReLU", "MergeLayer"]},
    "SigmoidRange": {"low": -1, "high": 2.5},
    "TorchMaxPool2D": {"kernel_size": 3, "stride": 1, "padding": "same"},
    "UpsampleConv2d": {"kernel_size": 3, "padding": 1, "scale_factor": 2},
}


@pytest.mark.parametrize("name", sorted(set(LAYERS) - {"MergeLayer", "ProdLayer"}))
def test_every_layer_works_where_the_plan_says_so(name):
    layer = {name: NEEDED[name]} if name in NEEDED else name
    planned, shape = plan_chain([layer], (2, 8, 12, 12))
    made = make_chain(planned)
    x = torch.randn(2, 8, 12, 12, requires_grad=True)
    output = made(x)
    assert output.shape == shape
    output.sum().backward()
    assert x.grad is not None
    for parameter in made.parameters():
        assert parameter.grad is not None


def test_nested_layers_are_made():
    conv = make_layer(
        LAYERS,
        "ConvLayer",
        {
            "ni": 2,
            "nf": 4,
            "act_cls": {"LeakyReLU": {"negative_slope": 0.25}},
            "norm_type": "Weight",
        },
    )
    assert conv[1].negative_slope == 0.25
    assert conv[0].parametrizations.weight[0].__class__.__name__ == "_WeightNorm"
    assert len(make_layer(LAYERS, "ConvLayer", {"ni": 2, "nf": 4, "act_cls": None})) == 2
    block = make_layer(
        LAYERS, "ResBlock", {"expansion": 1, "ni": 2, "nf": 2, "stride": 2, "pool": "MaxPool"}
    )
    assert isinstance(block.idpath[0], nn.MaxPool2d)
    closing = make_layer(
        LAYERS,
        "GenericClosing",
        {
            "kernel": {"LearnedKernel2D": {"in_channels": 1, "out_channels": 2, "kernel_size": 3}},
            "conv_dilation": "SelectSemifield.tropical_max",
            "conv_erosion": "SelectSemifield.tropical_min_negated",
        },
    )
    assert isinstance(closing.kernel, semifield.LearnedKernel2D)
    both = make_layer(LAYERS, "Cat", {"layers": [["ReLU", "Tanh"], "Tanh"], "dim": 2})
    assert isinstance(both, layers.Cat)
    assert both(torch.ones(1, 1, 2, 2)).shape == (1, 1, 4, 2)


def test_a_layer_is_a_name_or_a_name_with_arguments():
    assert split("ReLU") == ("ReLU", {})
    assert split({"ConvLayer": {"nf": 3}}) == ("ConvLayer", {"nf": 3})
    assert split({"ReLU": None}) == ("ReLU", {})
