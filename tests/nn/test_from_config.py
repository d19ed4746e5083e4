"""What a config asks for becomes an architecture, or an error with file and line."""

import pytest

from msdtool.architecture import Architecture
from msdtool.errors import ConfigError
from msdtool.nn.from_config import check_sizes, plan_architecture
from tests.helpers import parse_config

TEXT = """
task: regression
data: {train: {input: a, target: b}}
network: {depth: 4, width: 2, dilations: [1, 3], ndim: 3, padding: reflect}
"""

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

SERIES = """
task: regression
data: {train: {input: a, target: b}}
network:
  depth: 2
  ndim: 3
  stem: [{Conv3d: {kernel_size: [3, 1, 1]}}]
  head: [{SequentialEx: {layers: [ConvLayer, {Conv1d: {kernel_size: 2}}, MergeLayer]}}]
stream: {axis: 0, frames_per_chunk: 4}
"""


def test_an_architecture_is_the_config_and_the_channels():
    found = plan_architecture(parse_config(TEXT), 2, 5, (8, 8, 8))
    assert found == Architecture(2, 5, 4, 2, (1, 3), ndim=3, padding="reflect")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "PixelShuffle_ICNR",
            "PixelShuffle",
            r":10: network.head\[1\]: PixelShuffle is not a .*'PixelShuffle_ICNR'",
        ),
        (
            "scale: 2",
            "scale: x",
            r":10: network.head\[1\].PixelShuffle_ICNR.scale: got 'x'; expected",
        ),
        ("act_cls: null", "nf: 5", r"network.head\[1\]: outputs 5 channels; the output needs 1"),
        (
            "nf: 3",
            "nf: 3, padding: 0",
            r"network.head\[1\]: turns images of 16 x 16 pixels into 28 x 28",
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
        plan_architecture(config, 2, 1, (16, 16))
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
        plan_architecture(config, 2, 1, (16, 16))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            "{SequentialEx: {layers: [{ConvLayer: [1]}]}}",
            r"SequentialEx.layers\[0\].ConvLayer: got \[1\]; expected its arg.*ConvLayer\(ni",
        ),
        ("{SequentialEx: {layers: [null]}}", r"SequentialEx.layers\[0\]: null is not a layer"),
        ("{Cat: {layers: [1]}}", r"Cat.layers\[0\]: 1 is not a layer allowed here"),
        ("{Cat: {layers: [[1]]}}", r"Cat.layers\[0\]\[0\]: 1 is not a layer allowed here"),
    ],
)
def test_what_is_not_a_layer_among_others_is_a_config_error(layer, message):
    config = parse_config(AROUND.replace("{ConvLayer: {nf: 3}}", layer), "my.yaml")
    with pytest.raises(ConfigError, match=r"^my.yaml:\d+: network.stem\[0\]." + message):
        plan_architecture(config, 2, 1, (16, 16))


def test_temporal_layers_need_a_series():
    config = parse_config(SERIES.replace("stream: {axis: 0, frames_per_chunk: 4}", ""))
    with pytest.raises(
        ConfigError, match=r"network.stem\[0\]: Conv3d is for image sequences.*stream.axis"
    ):
        plan_architecture(config, 1, 1, (5, 12, 11))
    text = SERIES.replace("stream: {axis: 0, frames_per_chunk: 4}", "")
    text = text.replace("Conv3d: {kernel_size: [3, 1, 1]}", "ConvLayer: {nf: 2}")
    with pytest.raises(ConfigError, match=r"layers\[1\]: Conv1d is for image sequences"):
        plan_architecture(parse_config(text), 1, 1, (5, 12, 11))


def test_of_a_series_so_many_frames_are_tried_as_are_taken_at_a_time():
    text = SERIES.replace("depth: 2", "depth: 2\n  features: 1")
    head = "head: [SelfAttention]"
    text = "\n".join(f"  {head}" if "head:" in line else line for line in text.split("\n"))
    config = parse_config(text, "my.yaml")
    description = plan_architecture(config, 1, 1, (5, 12, 11))
    # 1000 frames are measured 4 at a time, and trained on all at once.
    check_sizes(config, description, [(9, 12, 11)], [(1000, 60, 60)])
    message = r"my.yaml:9: network.head\[0\].SelfAttention: .*60 x 60 pixels, 1000 at a time"
    with pytest.raises(ConfigError, match=message):
        check_sizes(config, description, [(1000, 60, 60)], [])


def test_a_series_keeps_its_size():
    end = "{Conv1d: {kernel_size: 2}}, MergeLayer]}}]"
    text = SERIES.replace(end, "MergeLayer]}}, PixelShuffle_ICNR]")
    with pytest.raises(ConfigError, match=r"network.head\[1\]: enlarges images"):
        plan_architecture(parse_config(text), 1, 1, (5, 12, 11))
