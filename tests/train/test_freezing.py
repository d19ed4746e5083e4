"""Frozen parts keep their bits whatever the optimizer does."""

import math

import pytest
import torch
from torch import nn

from msdtool.nn.msd import MSDModule
from msdtool.nn.scaling import ScaledNetwork
from msdtool.nn.yaml_layers.general import GeneralMSDModule
from msdtool.train.freezing import Frozen
from msdtool.train.optim import build_optimizer

DEPTH, WIDTH = 4, 2


def make(kind=MSDModule, **arguments):
    torch.manual_seed(3)
    msd = kind(2, 1, DEPTH, WIDTH, [1, 2], **arguments)
    nn.init.normal_(msd.final_layer.linear.weight)
    nn.init.normal_(msd.get_parameter("final_layer.linear.bias"))
    stem = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    head = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    network = ScaledNetwork(msd, 1, 1, 2, stem=stem, head=head)
    for name, parameter in network.named_parameters():
        if name.endswith("bias") and parameter.requires_grad:
            nn.init.normal_(parameter)
    return network


def copy(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def train(network, frozen, name="adamw", clip=math.inf, steps=3):
    """Updates with weight decay, as the loop makes them; return the norms of the gradients."""
    optimizer = build_optimizer(name, network.parameters(), 0.1, 0.5)
    norms = []
    network.train()
    frozen.start()
    for step in range(steps):
        optimizer.zero_grad()
        x = torch.randn(2, 1, 9, 9, generator=torch.Generator().manual_seed(step))
        network(x).square().mean().backward()
        frozen.before_update()
        norms.append(float(nn.utils.clip_grad_norm_(network.parameters(), clip)))
        optimizer.step()
        frozen.after_update()
    return norms


def is_frozen(name, tensor, parts, layers):
    """Which values of a tensor of the state dict keep their bits."""
    if name.startswith((*parts, "scale_")):
        return torch.ones_like(tensor, dtype=torch.bool)
    kept = torch.zeros_like(tensor, dtype=torch.bool)
    if name == "msd.msd_block.bias":
        kept[: layers * WIDTH] = True
    for layer in range(layers):
        if name == f"msd.msd_block.weight{layer}" or name.startswith(f"msd.layers.{layer}."):
            kept[...] = True
    return kept


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize(
    ("parts", "layers"), [(["stem"], 0), (["head"], 1), ([], 3), (["stem", "head"], DEPTH)]
)
@pytest.mark.parametrize("kind", [MSDModule, GeneralMSDModule])
def test_frozen_values_keep_their_bits_and_all_others_change(kind, parts, layers, optimizer):
    arguments = {} if kind is MSDModule else {"norm": {"SyncBatchNorm": {"num_features": WIDTH}}}
    network = make(kind, **arguments)
    before = copy(network)
    train(network, Frozen(network, parts, layers=layers), optimizer)
    for name, tensor in network.state_dict().items():
        kept = is_frozen(name, tensor, parts, layers)
        assert torch.equal(tensor[kept], before[name][kept]), name
        if not name.endswith("num_batches_tracked"):
            # A bias before a batch norm has no gradient; weight decay still changes it.
            assert (tensor != before[name])[~kept].all(), name


def test_frozen_gradients_do_not_count_in_the_norm():
    network = make()
    frozen = Frozen(network, ["stem"], layers=2)
    norm = train(network, frozen, steps=1)[0]
    other = make()
    other.train()
    other.stem.eval()
    x = torch.randn(2, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    other(x).square().mean().backward()
    total = 0.0
    for name, parameter in other.named_parameters():
        if parameter.grad is not None:
            kept = is_frozen(name, parameter, ["stem"], 2)
            total += float(parameter.grad[~kept].double().square().sum())
    assert norm == pytest.approx(math.sqrt(total), rel=1e-6)


def test_frozen_parameters_are_counted():
    # The stem: 2 + 2 of the convolution, 2 + 2 of the norm. Layers 0 and 1 read 2 and 4 channels.
    frozen = Frozen(make(), ["stem"], layers=2)
    assert frozen.num_parameters == 8 + 2 * 9 * (2 + 4) + 2 * WIDTH
    whole = Frozen(make(), layers=DEPTH)
    assert whole.num_parameters == 2 * 9 * (2 + 4 + 6 + 8) + DEPTH * WIDTH


def test_layers_work_as_in_prediction():
    network = make()
    frozen = Frozen(network, ["stem"])
    network.train()
    frozen.start()
    assert not network.stem[1].training
    assert network.head[1].training
