import torch

from msdtool.config import parse_config
from msdtool.nn.build import architecture, build_network

TEXT = """
task: regression
data: {train: {input: a, target: b}}
network: {depth: 4, width: 2, dilations: [1, 3], ndim: 3, padding: reflect}
"""


def test_an_architecture_is_the_config_and_the_channels():
    assert architecture(parse_config(TEXT).network, 2, 5) == {
        "c_in": 2,
        "c_out": 5,
        "depth": 4,
        "width": 2,
        "dilations": [1, 3],
        "ndim": 3,
        "padding": "reflect",
    }


def test_a_network_is_what_the_config_asks_for():
    network = build_network(architecture(parse_config(TEXT).network, 2, 5))
    assert network.msd.dilations == [1, 3, 1, 3]
    assert network.msd.msd_block.padding == "reflect"
    assert network(torch.rand(1, 2, 6, 6, 6)).shape == (1, 5, 6, 6, 6)


def test_a_series_gets_a_network_of_images_and_how_to_stream_it():
    config = parse_config(TEXT + "stream: {axis: 2, dt: 7}")
    description = architecture(config.network, 1, 2, config.stream)
    assert description["ndim"] == 3 and description["stream"] == {"axis": 2, "dt": 7}
    network = build_network(description)
    assert (network.axis, network.dt, network.msd.msd_block.ndim) == (2, 7, 2)
    assert network(torch.rand(1, 1, 6, 6, 9)).shape == (1, 2, 6, 6, 9)


def test_a_network_built_twice_takes_on_the_other_ones_weights():
    description = architecture(parse_config(TEXT).network, 1, 1)
    first, second = build_network(description), build_network(description)
    torch.nn.init.normal_(first.msd.final_layer.linear.weight)
    second.load_state_dict(first.state_dict())
    x = torch.rand(1, 1, 6, 7, 8)
    assert torch.equal(first(x), second(x))
