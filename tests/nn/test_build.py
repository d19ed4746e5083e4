import pytest
import torch

from msdtool.config import load_config, parse_config
from msdtool.errors import ConfigError
from msdtool.nn.build import architecture, build_network, check_sizes, has_all_layers
from msdtool.resources import resource_folder

TEXT = """
task: regression
data: {train: {input: a, target: b}}
network: {depth: 4, width: 2, dilations: [1, 3], ndim: 3, padding: reflect}
"""


def test_an_architecture_is_the_config_and_the_channels():
    assert architecture(parse_config(TEXT), 2, 5, (8, 8, 8)) == {
        "c_in": 2,
        "c_out": 5,
        "depth": 4,
        "width": 2,
        "dilations": [1, 3],
        "ndim": 3,
        "padding": "reflect",
    }


def test_a_network_is_what_the_config_asks_for():
    network = build_network(architecture(parse_config(TEXT), 2, 5, (8, 8, 8)))
    assert network.msd.dilations == [1, 3, 1, 3]
    assert network.msd.msd_block.padding == "reflect"
    assert network(torch.rand(1, 2, 6, 6, 6)).shape == (1, 5, 6, 6, 6)


def test_a_series_gets_a_network_of_images_and_how_to_stream_it():
    config = parse_config(TEXT + "stream: {axis: 2, dt: 7}")
    description = architecture(config, 1, 2, (6, 6, 9))
    assert description["ndim"] == 3 and description["stream"] == {"axis": 2, "dt": 7}
    network = build_network(description)
    assert (network.axis, network.dt, network.msd.msd_block.ndim) == (2, 7, 2)
    assert network(torch.rand(1, 1, 6, 6, 9)).shape == (1, 2, 6, 6, 9)


def test_a_network_built_twice_takes_on_the_other_ones_weights():
    description = architecture(parse_config(TEXT), 1, 1, (8, 8, 8))
    first, second = build_network(description), build_network(description)
    torch.nn.init.normal_(first.msd.final_layer.linear.weight)
    second.load_state_dict(first.state_dict())
    x = torch.rand(1, 1, 6, 7, 8)
    assert torch.equal(first(x), second(x))


AROUND = """
task: regression
data: {train: {input: a, target: b}}
network:
  depth: 2
  stem: [{ConvLayer: {nf: 3}}]
  features: 4
  head:
    - {SEModule: {reduction: 2}}
    - PixelShuffle_ICNR: {scale: 2, act_cls: null}
"""


def test_layers_around_the_network_are_part_of_its_architecture():
    description = architecture(parse_config(AROUND), 2, 1, (16, 16))
    assert description["c_stem"] == 3
    assert description["features"] == 4
    assert description["scale"] == 2
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


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "PixelShuffle_ICNR",
            "PixelShuffle",
            r":10: network.head\[1\]: PixelShuffle is no .*'PixelShuffle_ICNR'",
        ),
        (
            "scale: 2",
            "scale: x",
            r":10: network.head\[1\].PixelShuffle_ICNR.scale: got 'x'; expected",
        ),
        ("act_cls: null", "nf: 5", r"network.head\[1\]: gives 5 channels; the output needs 1"),
        (
            "nf: 3",
            "nf: 3, padding: 0",
            r"network.head\[1\]: makes images of 16 x 16 pixels 28 x 28",
        ),
        ("depth: 2", "depth: 2\n  norm: BatchNrm", r":6: network.norm: .*did you mean 'BatchNorm'"),
        (
            "depth: 2",
            "depth: 2\n  activation: {LeakyReLU: {slope: 1}}",
            "network.activation.LeakyReLU.slope: unknown",
        ),
        (
            "depth: 2",
            "depth: 2\n  operation: Conv2d",
            "did you mean .conv.. Allowed: GenericConv, conv",
        ),
        (
            "depth: 2",
            "depth: 2\n  operation: {GenericConv: {kernel: {LearnedKernel2D: {kernel_size: 3}}, "
            "conv: {SubtractSemifield.log: {mu: 0}}}}",
            r"network.operation.GenericConv: cannot be used .* \(mu is 0.*\). GenericConv\(ker",
        ),
        (
            "depth: 2",
            "depth: 2\n  operation: {GenericConv: {dilation: 2}}",
            "network.operation.GenericConv.dilation: unknown",
        ),
    ],
)
def test_layers_that_do_not_fit_are_config_errors_with_file_and_line(old, new, message):
    config = parse_config(AROUND.replace(old, new), "my.yaml")
    with pytest.raises(ConfigError, match=message) as error:
        architecture(config, 2, 1, (16, 16))
    assert str(error.value).startswith("my.yaml:")


OPERATION = "{GenericConv: {kernel: {LearnedKernel2D: {kernel_size: 3%s}}, conv: %s}}"
GOOD_OPERATION = OPERATION % ("", "SelectSemifield.tropical_max")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"operation": GOOD_OPERATION, "norm": "{SyncBatchNorm: {activation: relu}}"},
            r"norm.SyncBatchNorm: cannot .* \(activation is 'relu'.*\). SyncBatchNorm\(num_f",
        ),
        (
            {"operation": GOOD_OPERATION, "norm": "{BatchNorm: {norm_type: Spectral}}"},
            r"norm.BatchNorm: .* \(norm_type is Spectral; allowed: Batch, BatchZero\). Batch",
        ),
        (
            {"operation": GOOD_OPERATION, "norm": "{InstanceNorm: {norm_type: null}}"},
            r"norm.InstanceNorm: .*\(norm_type is null; allowed: Instance, InstanceZero\)",
        ),
        (
            {"activation": "{LeakyReLU: {negative_slope: 0.5, inplace: 3}}"},
            r"activation.LeakyReLU.inplace: got 3; .*LeakyReLU\(negative_slope",
        ),
        (
            {
                "operation": OPERATION % ("", "{SubtractSemifield.root: {p: 0}}"),
                "norm": "SyncBatchNorm",
                "activation": "Tanh",
            },
            r"operation.GenericConv: cannot .* \(p is 0; .*\). GenericConv\(kernel, conv",
        ),
        (
            {"operation": OPERATION % (", in_channels: 7", "SelectSemifield.tropical_max")},
            r"operation.GenericConv.kernel.LearnedKernel2D.in_channels: .*; leave it out",
        ),
        (
            {"operation": OPERATION % (", out_channels: 7", "SelectSemifield.tropical_max")},
            "operation.GenericConv.kernel.LearnedKernel2D.out_channels: differs from hidden layer",
        ),
        (
            {
                "operation": "{GenericConv: {kernel: LearnedKernel2D, "
                "conv: SelectSemifield.tropical_max}}"
            },
            "operation.GenericConv.kernel.LearnedKernel2D: kernel_size is missing",
        ),
    ],
)
def test_the_key_inside_the_network_that_fails_is_named(keys, message):
    lines = "".join(f"\n  {key}: {value}" for key, value in keys.items())
    config = parse_config(AROUND.replace("depth: 2", "depth: 2" + lines), "my.yaml")
    with pytest.raises(ConfigError, match=r"^my.yaml:\d+: network[.]" + message):
        architecture(config, 2, 1, (16, 16))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            "{SequentialEx: {layers: [{ConvLayer: [1]}]}}",
            r"SequentialEx.layers\[0\].ConvLayer: got \[1\]; expected its arg.*ConvLayer\(ni",
        ),
        ("{SequentialEx: {layers: [null]}}", r"SequentialEx.layers\[0\]: null is no layer"),
        ("{Cat: {layers: [1]}}", r"Cat.layers\[0\]: 1 is no layer that can be used here"),
        ("{Cat: {layers: [[1]]}}", r"Cat.layers\[0\]\[0\]: 1 is no layer that can be used here"),
    ],
)
def test_what_is_no_layer_among_others_is_a_config_error(layer, message):
    config = parse_config(AROUND.replace("{ConvLayer: {nf: 3}}", layer), "my.yaml")
    with pytest.raises(ConfigError, match=r"^my.yaml:\d+: network.stem\[0\]." + message):
        architecture(config, 2, 1, (16, 16))


def test_images_of_a_size_that_the_layers_do_not_give_back_are_refused():
    text = AROUND.replace("nf: 3", "nf: 3, stride: 2")
    network = build_network(architecture(parse_config(text), 1, 1, (16, 16)))
    assert network.scale == 1
    assert network(torch.rand(1, 1, 12, 10)).shape == (1, 1, 12, 10)
    with pytest.raises(ValueError, match=r"makes \[14, 10\] pixels of \[13, 10\], expected"):
        network(torch.rand(1, 1, 13, 10))


def test_a_state_without_the_deepest_layer_is_noticed():
    for key in ("", "\n  norm: SyncBatchNorm"):
        text = AROUND.replace("depth: 2", "depth: 2" + key)
        description = architecture(parse_config(text), 1, 1, (16, 16))
        state = build_network(description).state_dict()
        assert has_all_layers(description, state)
        assert not has_all_layers({**description, "depth": 3}, state)


SERIES = """
task: regression
data: {train: {input: a, target: b}}
network:
  depth: 2
  ndim: 3
  stem: [{Conv3d: {kernel_size: [3, 1, 1]}}]
  head: [{SequentialEx: {layers: [ConvLayer, {Conv1d: {kernel_size: 2}}, MergeLayer]}}]
stream: {axis: 0, dt: 4}
"""


def test_temporal_layers_link_the_frames_of_a_series():
    description = architecture(parse_config(SERIES), 1, 1, (5, 12, 11))
    assert description["stem"][0]["Conv3d"]["weights"] == "identity"
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


def test_temporal_layers_need_a_series():
    config = parse_config(SERIES.replace("stream: {axis: 0, dt: 4}", ""))
    with pytest.raises(ConfigError, match=r"network.stem\[0\]: Conv3d is for series.*stream.axis"):
        architecture(config, 1, 1, (5, 12, 11))
    text = SERIES.replace("stream: {axis: 0, dt: 4}", "")
    text = text.replace("Conv3d: {kernel_size: [3, 1, 1]}", "ConvLayer: {nf: 2}")
    with pytest.raises(ConfigError, match=r"layers\[1\]: Conv1d is for series"):
        architecture(parse_config(text), 1, 1, (5, 12, 11))


def test_of_a_series_so_many_frames_are_tried_as_are_taken_at_a_time():
    text = SERIES.replace("depth: 2", "depth: 2\n  features: 1")
    head = "head: [SelfAttention]"
    text = "\n".join(f"  {head}" if "head:" in line else line for line in text.split("\n"))
    config = parse_config(text, "my.yaml")
    description = architecture(config, 1, 1, (5, 12, 11))
    # 1000 frames are measured 4 at a time, and trained on all at once.
    check_sizes(config, description, [(9, 12, 11)], [(1000, 60, 60)])
    message = r"my.yaml:9: network.head\[0\].SelfAttention: .*60 x 60 pixels, 1000 at a time"
    with pytest.raises(ConfigError, match=message):
        check_sizes(config, description, [(1000, 60, 60)], [])


def test_a_series_keeps_its_size():
    end = "{Conv1d: {kernel_size: 2}}, MergeLayer]}}]"
    text = SERIES.replace(end, "MergeLayer]}}, PixelShuffle_ICNR]")
    with pytest.raises(ConfigError, match=r"network.head\[1\]: makes images larger"):
        architecture(parse_config(text), 1, 1, (5, 12, 11))


@pytest.mark.parametrize(
    "path", sorted(resource_folder("configs").rglob("*.yaml")), ids=lambda path: path.name
)
def test_every_template_has_a_network_that_learns(path):
    config = load_config(path)
    space = (4, 14, 13) if config.network.ndim == 3 else (14, 13)
    channels = 2 * config.data.slab + 1
    description = architecture(config, channels, config.num_labels or 1, config.crop_size or space)
    network = build_network({**description, "depth": 2})
    torch.nn.init.normal_(network.msd.final_layer.linear.weight)
    output = network(torch.randn(2, channels, *space))
    scale = description.get("scale", 1)
    assert output.shape == (2, config.num_labels or 1, *(scale * size for size in space))
    output.square().sum().backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
