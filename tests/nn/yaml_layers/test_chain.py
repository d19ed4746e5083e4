import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msdtool.nn.yaml_layers.chain import LayerError, attempt, plan_chain
from msdtool.nn.yaml_layers.registry import make_chain

SHAPE = (2, 4, 16, 18)


def test_channels_follow_from_the_layers_before_and_from_what_is_wanted():
    planned, shape = plan_chain(["SyncBatchNorm", {"ConvLayer": {"nf": 8}}, "ResBlock"], SHAPE, 3)
    assert planned[0] == {"SyncBatchNorm": {"num_features": 4}}
    assert planned[1]["ConvLayer"]["ni"] == 4
    assert planned[2] == {"ResBlock": {"expansion": 1, "ni": 8, "nf": 3, "ndim": 2}}
    assert shape == (2, 3, 16, 18)
    planned, shape = plan_chain([{"ResBlock": {"expansion": 2}}], SHAPE, 6)
    assert (planned[0]["ResBlock"]["ni"], planned[0]["ResBlock"]["nf"]) == (2, 3)
    assert shape[1] == 6


def test_given_arguments_win():
    planned, shape = plan_chain([{"PixelShuffle_ICNR": {"nf": 7, "scale": 3}}], SHAPE, 1)
    assert planned[0]["PixelShuffle_ICNR"]["nf"] == 7
    assert shape == (2, 7, 48, 54)


def test_kernels_count_the_channels_of_one_group():
    kernel = {"LearnedKernel2D": {"kernel_size": 3}}
    conv = "SelectSemifield.tropical_max"

    def channels(layer):
        planned, shape = plan_chain([layer], SHAPE)
        arguments = next(iter(planned[0].values()))["kernel"]["LearnedKernel2D"]
        assert shape == SHAPE
        return arguments["in_channels"], arguments["out_channels"]

    assert channels({"GenericClosing": {"kernel": kernel}}) == (1, 4)
    assert channels({"GenericClosing": {"kernel": kernel, "group_broadcasting": True}}) == (1, 1)
    assert channels({"GenericConv": {"kernel": kernel, "conv": conv}}) == (4, 4)
    assert channels({"GenericConv": {"kernel": kernel, "conv": conv, "groups": 2}}) == (2, 4)


@settings(deadline=None, max_examples=25)
@given(
    channels=st.integers(1, 5),
    wanted=st.integers(1, 5),
    space=st.lists(st.integers(6, 11), min_size=2, max_size=3),
    chain=st.lists(
        st.sampled_from(
            [
                "ReLU",
                "ResBlock",
                "SimpleSelfAttention",
                "SelfAttention",
                "ContextEncoding",
                "InstanceNorm",
                {"ConvLayer": {"nf": 3, "dilation": 2}},
                {"MaxPool": {"ks": 2, "stride": 1}},
                {"SEModule": {"reduction": 2}},
                {"SequentialEx": {"layers": ["ConvLayer", "MergeLayer"]}},
                {"Cat": {"layers": [["ConvLayer"], "Tanh"]}},
            ]
        ),
        max_size=4,
    ),
)
def test_the_layers_give_what_the_plan_says(channels, wanted, space, chain):
    planned, shape = plan_chain(chain, (1, channels, *space), wanted)
    made = make_chain(planned).eval()
    with torch.no_grad():
        assert made(torch.randn(1, channels, *space)).shape == shape


@pytest.mark.parametrize(
    ("layer", "path", "message"),
    [
        (
            "PixelShufle",
            (0,),
            "not a layer.*did you mean 'PixelShuffle_ICNR'.*Allowed: Adaptive",
        ),
        ({"ConvLayer": 3}, (0, "ConvLayer"), "got 3; expected its arguments by name: ConvLayer"),
        (7, (0,), "7 is not a layer"),
        ({"ConvLayer": {"nff": 3}}, (0, "ConvLayer", "nff"), r"did you mean 'nf'\? ConvLayer\(ni"),
        ({"ConvLayer": {"device": "cpu"}}, (0, "ConvLayer", "device"), "unknown argument"),
        ({"ConvLayer": {"nf": "a"}}, (0, "ConvLayer", "nf"), "got 'a'; expected an integer"),
        ({"ConvLayer": {"bias": 1}}, (0, "ConvLayer", "bias"), "expected true or false or null"),
        ({"SigmoidRange": {"low": 0}}, (0, "SigmoidRange"), "high is missing. SigmoidRange"),
        (
            {"ConvLayer": {"norm_type": "batch"}},
            (0, "ConvLayer", "norm_type"),
            "'Batch'. Allowed: null, Batch",
        ),
        ({"ConvLayer": {"act_cls": "Relu"}}, (0, "ConvLayer", "act_cls"), "did you mean 'ReLU'"),
        (
            {"ConvLayer": {"act_cls": {"LeakyReLU": {"slope": 1}}}},
            (0, "ConvLayer", "act_cls", "LeakyReLU", "slope"),
            r"LeakyReLU\(negative_slope",
        ),
        ({"ResBlock": {"expansion": 3}}, (0, "ResBlock"), "divisor of the 4 channels"),
        (
            {"MaxPool": {"ks": 30}},
            (0, "MaxPool"),
            r"cannot be used with these arguments on a batch of shape \[2, 4, 16, 18\].*MaxPool\(",
        ),
        ("MergeLayer", (0,), "MergeLayer can only be used inside a SequentialEx"),
        (
            {"SequentialEx": {"layers": []}},
            (0, "SequentialEx", "layers"),
            "expected a list of layers",
        ),
        (
            {"SequentialEx": {"layers": ["ReLU", "Rello"]}},
            (0, "SequentialEx", "layers", 1),
            "did you mean",
        ),
        (
            {"SequentialEx": {"layers": [{"MaxPool": {"ks": 2}}, "MergeLayer"]}},
            (0, "SequentialEx", "layers", 1, "MergeLayer"),
            "cannot be used with these arguments on a batch.*MergeLayer",
        ),
        ({"Cat": {"layers": ["ReLU", [{"MaxPool": {}}]]}}, (0, "Cat"), "cannot be joined"),
        (
            {"Cat": {"layers": ["ReLU", ["ReLU", "Rello"]]}},
            (0, "Cat", "layers", 1, 1),
            "did you mean",
        ),
        (
            {
                "GenericConv": {
                    "kernel": {"LearnedKernel2D": {}},
                    "conv": "SelectSemifield.tropical_max",
                }
            },
            (0, "GenericConv", "kernel", "LearnedKernel2D"),
            "kernel_size is missing",
        ),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(layer, path, message):
    with pytest.raises(LayerError, match=message) as error:
        plan_chain([layer], SHAPE)
    assert error.value.path == path


KERNEL = {"LearnedKernel2D": {"kernel_size": 3}}


@pytest.mark.parametrize(
    ("layer", "arguments", "message"),
    [
        ("GenericClosing", {"kernel": KERNEL, "groups": 0}, "groups: got 0; expected more than 0"),
        ("GenericClosing", {"kernel": None}, "kernel: got null; expected one of LearnedKernel2D,"),
        ("GenericConv", {"kernel": KERNEL, "conv": None}, "conv: got null; expected one of Broad"),
        (
            "GenericConv",
            {"kernel": KERNEL, "conv": "SelectSemifield.tropical_max", "groups": 0},
            "groups: got 0; expected more than 0",
        ),
        ("SEModule", {"reduction": 0}, "reduction: got 0; expected more than 0"),
        ("ResBlock", {"stride": 0}, "stride: got 0; expected more than 0"),
        ("PixelShuffle_ICNR", {"scale": 0}, "scale: got 0; expected more than 0"),
        ("PixelShuffle_ICNR", {"scale": -2}, "scale: got -2; expected more than 0"),
        ("ContextEncoding", {"codes": 0}, "codes: got 0; expected more than 0"),
        (
            "GenericClosing",
            {
                "kernel": {
                    "QuadraticKernelIso2D": {"kernel_size": 3, "init": {"var": 3.0, "vra": 2}}
                }
            },
            r": cannot be used .*\(init has the key 'vra'; allowed: var\)",
        ),
        ("ConvLayer", {"dilation": 0}, "dilation: got 0; expected more than 0"),
        ("ConvLayer", {"ks": 5, "padding": -1}, "padding: got -1; expected 0 or more"),
        ("MaxPool", {"ks": -1}, "ks: got -1; expected more than 0"),
        (
            "ConvLayer",
            {"ni": 2},
            r": cannot be used with these arguments on a batch of shape \[2, 4, 16, 18\] \(",
        ),
    ],
)
def test_arguments_that_no_layer_can_have_are_told_with_the_signature(layer, arguments, message):
    with pytest.raises(LayerError) as error:
        plan_chain([{layer: arguments}], SHAPE)
    place = ".".join(map(str, error.value.path[2:]))
    assert re.match(message, f"{place}: {error.value.message}")
    assert error.value.path[:2] == (0, layer)
    assert f". {layer}(" in error.value.message


def test_what_torch_asks_of_its_own_users_is_left_out():
    def fail():
        raise RuntimeError("Expected x. (Could this error message be improved? If so, please ...)")

    assert attempt(fail, [SHAPE]) == "Expected x"


@pytest.mark.parametrize("space", [(7, 8), (5, 6, 7)])
def test_a_gate_is_put_together_of_its_parts(space):
    convolution = {"ConvLayer": {"ks": 1, "norm_type": None, "act_cls": "Sigmoid"}}
    gate = {"SequentialEx": {"layers": ["AdaptiveAvgPool", convolution, "ProdLayer"]}}
    planned, shape = plan_chain([gate], (2, 3, *space))
    chain, x = make_chain(planned), torch.randn(2, 3, *space)
    assert shape == x.shape
    means = x.mean(tuple(range(2, x.dim())), keepdim=True)
    expected = x * chain[0].layers[1](means)
    torch.testing.assert_close(chain(x), expected)


def test_volumes_have_kernels_of_their_own():
    volume = (1, 2, 6, 7, 8)
    for kernel in ("LearnedKernel3D", "QuadraticKernelIso3D"):
        planned, shape = plan_chain(
            [{"GenericClosing": {"kernel": {kernel: {"kernel_size": 3}}}}], volume
        )
        assert shape == volume
        assert make_chain(planned)(torch.ones(volume)).shape == volume
    flat = {"GenericClosing": {"kernel": {"LearnedKernel2D": {"kernel_size": 3}}}}
    with pytest.raises(LayerError, match="an image with 3 spatial axes needs a kernel with 3"):
        plan_chain([flat], volume)


def test_attention_over_a_large_image_is_refused_without_taking_memory():
    with pytest.raises(LayerError, match=r"512 x 512 pixels.*256.0 GiB"):
        plan_chain(["SelfAttention"], (1, 8, 512, 512))
