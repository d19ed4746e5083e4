"""The layers against the numbers of the original library."""

import re
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from msdtool.nn import layers
from msdtool.nn.layers import NormType

from ...golden import FOLDER, Case


class Two(nn.Module):
    """Two outputs of two inputs, the second doubled."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x, y):
        return self.conv(x), 2 * self.conv(y)


MODULES = {
    "AdaptiveAvgPool_1d": lambda: layers.AdaptiveAvgPool(3, ndim=1),
    "AdaptiveConcatPool1d": lambda: layers.AdaptiveConcatPool1d(2),
    "AdaptiveConcatPool2d": layers.AdaptiveConcatPool2d,
    "AvgPool_3d": lambda: layers.AvgPool(2, ndim=3),
    "BatchNorm1dFlat": lambda: layers.BatchNorm1dFlat(5),
    "BatchNorm_2d_train": lambda: layers.BatchNorm(3),
    "Cat": lambda: layers.Cat(
        [layers.ConvLayer(2, 3), layers.ConvLayer(2, 2, ks=1), layers.ConvLayer(2, 1)]
    ),
    "ConvLayer_1d_leaky": lambda: layers.ConvLayer(
        2, 3, 5, ndim=1, act_cls=partial(nn.LeakyReLU, negative_slope=0.1), bn_1st=False
    ),
    "ConvLayer_default": lambda: layers.ConvLayer(2, 3),
    "ConvLayer_none_bias": lambda: layers.ConvLayer(2, 3, 3, norm_type=None),
    "ConvLayer_stride2": lambda: layers.ConvLayer(2, 3, stride=2),
    "ConvLayer_weightnorm": lambda: layers.ConvLayer(2, 3, 3, norm_type=NormType.Weight),
    "Embedding": lambda: layers.Embedding(6, 4),
    "Flatten": layers.Flatten,
    "InstanceNorm_2d": lambda: layers.InstanceNorm(3),
    "LinBnDrop": lambda: layers.LinBnDrop(4, 3),
    "MaxPool_2d": lambda: layers.MaxPool(2),
    "PartialLambda": lambda: layers.PartialLambda(lambda a, b=2: a * 3 + b, b=5),
    "PixelShuffle_ICNR_fresh_blocks": lambda: layers.PixelShuffle_ICNR(4, norm_type=None),
    "PixelShuffle_ICNR_weightnorm": lambda: layers.PixelShuffle_ICNR(3),
    "PoolFlatten_avg": layers.PoolFlatten,
    "PooledSelfAttention2d": lambda: layers.PooledSelfAttention2d(8),
    "ResBlock_exp1": lambda: layers.ResBlock(1, 4, 4),
    "ResBlock_exp1_stride2_odd": lambda: layers.ResBlock(1, 3, 4, stride=2),
    "ResBlock_exp4": lambda: layers.ResBlock(4, 1, 2),
    "SEBlock": lambda: layers.SEBlock(1, 8, 8, reduction=4),
    "SEModule": lambda: layers.SEModule(16, 2),
    "SEResNeXtBlock": lambda: layers.SEResNeXtBlock(1, 16, 16, groups=4),
    "SelfAttention": lambda: layers.SelfAttention(8),
    "SelfAttention_initial_identity": lambda: layers.SelfAttention(8),
    "SeparableBlock": lambda: layers.SeparableBlock(1, 4, 8, reduction=2),
    "SequentialEx_MergeLayer": lambda: layers.SequentialEx(
        layers.ConvLayer(2, 2), layers.ConvLayer(2, 2, act_cls=None), layers.MergeLayer()
    ),
    "SimpleCNN": lambda: layers.SimpleCNN([2, 3, 4]),
    "SimpleSelfAttention": lambda: layers.SimpleSelfAttention(4),
    "TimeDistributed": lambda: layers.TimeDistributed(nn.Conv2d(3, 4, 1)),
    "TimeDistributed_bn": lambda: layers.TimeDistributed(nn.BatchNorm2d(2)),
    "TimeDistributed_tuple": lambda: layers.TimeDistributed(Two()),
    "View": lambda: layers.View(2, 6, 2),
    "mish": layers.MishJit,
    "sigmoid_clamp": lambda: layers.Lambda(layers.sigmoid),
    "sigmoid_range": lambda: layers.SigmoidRange(-1, 2),
    "swish": layers.SwishJit,
    "vleaky_relu": lambda: layers.PartialLambda(layers.vleaky_relu, inplace=False),
}

OTHERS = {"NoneReduce", "icnr_init_1x1", "norm_init_BatchNorm", "norm_init_InstanceZero"}


def new_name(name: str, is_weight_norm: bool) -> str:
    """The state-dict name of torch's parametrizations for that of its older normalisations."""
    if is_weight_norm:
        renamed = {"weight_g": "weight.original0", "weight_v": "weight.original1"}
    else:
        renamed = {"weight_orig": "weight.original", "weight_u": "weight.0._u"}
        renamed["weight_v"] = "weight.0._v"
    head, _, last = name.rpartition(".")
    return f"{head}.parametrizations.{renamed[last]}" if last in renamed else name


def test_every_case_of_the_original_is_here():
    names = {path.stem for path in (FOLDER / "fastai").glob("*.json")}
    assert names == set(MODULES) | OTHERS


@pytest.mark.parametrize("name", MODULES)
def test_values_and_gradients_are_those_of_the_original(name):
    case = Case("fastai", name)
    is_weight_norm = any(key.endswith("weight_g") for key in case.arrays)

    def renamed(group: str) -> dict[str, torch.Tensor]:
        return {new_name(key, is_weight_norm): t for key, t in case.group(group).items()}

    module = MODULES[name]().double()
    state = {**module.state_dict(), **renamed("param"), **renamed("buffer")}
    module.load_state_dict(state)
    module.train(case.description["call"].get("mode") != "eval")
    inputs = [
        value.requires_grad_(value.is_floating_point()) for value in case.group("in").values()
    ]
    output = module(*inputs)
    outputs = output if isinstance(output, tuple) else (output,)
    for index, value in enumerate(outputs):
        case.assert_close(value, f"out.{index}")
    cotangents = list(case.group("gy").values())
    if cotangents:
        torch.autograd.backward(outputs, cotangents)
    for key in case.group("grad.in"):
        case.assert_close(inputs[int(key)].grad, f"grad.in.{key}")
    for key in case.group("grad.param"):
        parameter = module.get_parameter(new_name(key, is_weight_norm))
        case.assert_close(parameter.grad, f"grad.param.{key}")
    state = module.state_dict()
    for key in case.group("after"):
        case.assert_close(state[new_name(key, is_weight_norm)], f"after.{key}")
    for key in case.group("effective"):
        owner = module.get_submodule(re.sub(r"\.weight$", "", key))
        case.assert_close(owner.weight, f"effective.{key}")


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("swish", layers.swish),
        ("swish", layers.Swish()),
        ("mish", layers.mish),
        ("mish", layers.Mish()),
        ("mish", layers.MishJitAutoFn.apply),
        ("sigmoid_clamp", layers.sigmoid),
        ("sigmoid_clamp", lambda x: layers.sigmoid_(x.clone())),
        ("vleaky_relu", lambda x: layers.vleaky_relu(x.clone())),
    ],
)
def test_functions_agree_with_the_original(name, function):
    case = Case("fastai", name)
    input = case["in.0"].requires_grad_()
    output = function(input)
    output.backward(case["gy.0"])
    case.assert_close(output, "out.0")
    case.assert_close(input.grad, "grad.in.0")


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("norm_init_BatchNorm", layers.BatchNorm),
        (
            "norm_init_InstanceZero",
            partial(layers.InstanceNorm, norm_type=NormType.InstanceZero),
        ),
    ],
)
def test_norms_start_as_in_the_original(name, norm):
    case = Case("fastai", name)
    layer = norm(len(case["param.weight"])).double()
    torch.testing.assert_close(layer.weight.detach(), case["param.weight"])
    torch.testing.assert_close(layer.bias.detach(), case["param.bias"], rtol=1e-6, atol=0)


def test_icnr_repeats_each_filter():
    case = Case("fastai", "icnr_init_1x1")

    def count(weight):
        weight.copy_(torch.arange(weight.numel()).reshape(weight.shape))

    case.assert_close(layers.icnr_init(torch.zeros(8, 3, 1, 1).double(), 2, count), "out.0")


def test_none_reduce_gives_all_values_and_puts_back_the_reduction():
    case = Case("fastai", "NoneReduce")
    loss = nn.MSELoss()
    with layers.NoneReduce(loss) as each:
        case.assert_close(each(case["in.0"], case["in.1"]), "out.0")
    case.assert_close(loss(case["in.0"], case["in.1"]), "after.mean")
    with layers.NoneReduce(F.l1_loss) as each:
        case.assert_close(each(case["in.0"], case["in.1"]), "out.1")
