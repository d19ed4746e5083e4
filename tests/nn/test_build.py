"""Networks from architectures; the architectures here are planned from configs."""

from dataclasses import replace

import pytest
import torch

from msdtool.architecture import Stream
from msdtool.config import load_config
from msdtool.nn.build import build_network, restore_network
from msdtool.nn.from_config import plan_architecture
from msdtool.resources import resource_folder
from tests.helpers import parse_config
from tests.nn.test_from_config import AROUND, SERIES, TEXT


def test_a_network_is_what_the_config_asks_for():
    network = build_network(plan_architecture(parse_config(TEXT), 2, 5, (8, 8, 8)))
    assert network.msd.dilations == [1, 3, 1, 3]
    assert network.msd.msd_block.padding == "reflect"
    assert network(torch.rand(1, 2, 6, 6, 6)).shape == (1, 5, 6, 6, 6)


def test_a_series_gets_a_network_of_images_and_how_to_stream_it():
    config = parse_config(TEXT + "stream: {axis: 2, frames_per_chunk: 7}")
    description = plan_architecture(config, 1, 2, (6, 6, 9))
    assert description.ndim == 3 and description.stream == Stream(axis=2, dt=7)
    network = build_network(description)
    assert (network.axis, network.dt, network.msd.msd_block.ndim) == (2, 7, 2)
    assert network(torch.rand(1, 1, 6, 6, 9)).shape == (1, 2, 6, 6, 9)


def test_a_network_built_twice_takes_on_the_other_ones_weights():
    description = plan_architecture(parse_config(TEXT), 1, 1, (8, 8, 8))
    first, second = build_network(description), build_network(description)
    torch.nn.init.normal_(first.msd.final_layer.linear.weight)
    second.load_state_dict(first.state_dict())
    x = torch.rand(1, 1, 6, 7, 8)
    assert torch.equal(first(x), second(x))


def test_layers_around_the_network_are_part_of_its_architecture():
    description = plan_architecture(parse_config(AROUND), 2, 1, (16, 16))
    assert description.outer.c_stem == 3
    assert description.outer.features == 4
    assert description.scale == 2
    network = build_network(description)
    x = torch.rand(2, 2, 12, 10)
    output = network(x)
    assert output.shape == (2, 1, 24, 20)
    output.square().sum().backward()
    gradients = [p.grad.abs().sum() for p in network.parameters() if p.requires_grad]
    assert min(gradients) > 0
    again = build_network(description)
    again.load_state_dict(network.state_dict())
    assert torch.equal(again.eval()(x), network.eval()(x))


def test_images_of_a_size_that_the_layers_do_not_give_back_are_refused():
    text = AROUND.replace("nf: 3", "nf: 3, stride: 2")
    network = build_network(plan_architecture(parse_config(text), 1, 1, (16, 16)))
    assert network.scale == 1
    assert network(torch.rand(1, 1, 12, 10)).shape == (1, 1, 12, 10)
    with pytest.raises(ValueError, match=r"maps \[13, 10\] pixels to \[14, 10\], expected"):
        network(torch.rand(1, 1, 13, 10))


def test_a_network_is_restored_with_its_weights():
    description = plan_architecture(parse_config(AROUND), 1, 1, (16, 16))
    state = build_network(description).state_dict()
    restored = restore_network(description, state).state_dict()
    assert list(restored) == list(state)
    assert all(torch.equal(restored[name], state[name]) for name in state)


def test_layers_with_other_weights_than_the_stored_ones_are_never_made():
    description = plan_architecture(parse_config(AROUND), 1, 1, (16, 16))
    state = build_network(description).state_dict()
    arguments = {**description.outer.stem[0]["ConvLayer"], "nf": 10**12}
    outer = replace(description.outer, stem=[{"ConvLayer": arguments}])
    with pytest.raises(ValueError, match=r"stem.0.0.weight has shape \(3, 1, 3, 3\); the layers "):
        restore_network(replace(description, outer=outer), state)


@pytest.mark.parametrize("layer", ["None", {"ConvLayer": {"nf": "x"}}, 7, [], {"ReLU": {"a": 1}}])
def test_layers_that_cannot_be_made_are_refused(layer):
    description = plan_architecture(parse_config(AROUND), 1, 1, (16, 16))
    state = build_network(description).state_dict()
    outer = replace(description.outer, stem=[layer])
    with pytest.raises(ValueError, match=r"\S"):
        restore_network(replace(description, outer=outer), state)


def test_temporal_layers_link_the_frames_of_a_series():
    description = plan_architecture(parse_config(SERIES), 1, 1, (5, 12, 11))
    assert description.outer.stem[0]["Conv3d"]["weights"] == "identity"
    network = build_network(description).eval()
    torch.nn.init.normal_(network.stem[0].layer.weight)
    x = torch.rand(2, 1, 9, 12, 11)
    with torch.no_grad():
        whole, pieces = network(x), [network.advance(part) for part in x.split(3, 2)]
        torch.testing.assert_close(torch.cat(pieces, 2), whole)
        x[:, :, :4] = 0
        network.clear_state()
        changed = network(x)
    assert not torch.allclose(changed[:, :, 4], whole[:, :, 4])
    torch.testing.assert_close(changed[:, :, 8], whole[:, :, 8])


@pytest.mark.parametrize(
    "path", sorted(resource_folder("configs").glob("*.yaml")), ids=lambda path: path.name
)
def test_every_template_has_a_network_that_learns(path):
    config = load_config(path)
    space = (4, 14, 13) if config.network.ndim == 3 else (14, 13)
    channels = 2 * config.data.slab + 1
    description = plan_architecture(
        config, channels, config.num_labels or 1, config.crop_size or space
    )
    network = build_network(replace(description, depth=2))
    torch.nn.init.normal_(network.msd.final_layer.linear.weight)
    output = network(torch.randn(2, channels, *space))
    scale = description.scale
    assert output.shape == (2, config.num_labels or 1, *(scale * size for size in space))
    output.square().sum().backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
