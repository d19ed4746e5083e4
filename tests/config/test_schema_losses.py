"""Losses and layers in a config."""

import pytest

from msdtool.config import dump_config
from msdtool.config.loss_names import LOSS_TERMS
from msdtool.errors import ConfigError
from tests.config.test_schema import PAIRS, REGRESSION
from tests.helpers import parse_config


@pytest.mark.parametrize(
    ("loss", "terms"),
    [
        ("L1", {"L1": 1.0}),
        ("L2+SSIM", {"L2": 0.75, "SSIM": 0.25}),
        ("[L2, {Gram: 0.1}]", {"L2": 1.0, "Gram": 0.1}),
    ],
)
def test_losses_have_terms_with_weights(loss, terms):
    extra = ", ssim_weight: 0.25" if "SSIM" in loss else ""
    text = REGRESSION + f"training: {{loss: {loss}{extra}}}"
    config = parse_config(text)
    assert config.training.loss_terms == terms
    assert parse_config(dump_config(config)) == config


def test_a_list_of_losses_for_segmentation():
    segmentation = f"task: segmentation\ndata: {{{PAIRS}, labels: 3}}\n"
    config = parse_config(segmentation + "training: {loss: [cross_entropy, {dice: 2}]}")
    assert config.training.loss_terms == {"cross_entropy": 1.0, "dice": 2.0}


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            "[L2, {Gramm: 0.1}]",
            "in a list for regression: got 'Gramm'; did you mean",
        ),
        ("[dice]", f"got 'dice'; allowed: {', '.join(LOSS_TERMS['regression'])}"),
        ("[{L1: 1, L2: 1}]", "expected losses such as [L2, {Gram: 0.1}]; found {'L1': 1, 'L2': 1}"),
        ("[L1, L1]", "each loss once; L1 appears twice"),
        ("[{L1: 0}]", "positive weights; the weight of L1 is 0"),
        ("[]", "at least one loss"),
        ("L3", "got 'L3'; allowed: L1, L2"),
    ],
)
def test_wrong_losses_are_told_with_the_right_ones(loss, message):
    with pytest.raises(ConfigError) as error:
        parse_config(REGRESSION + f"training: {{loss: {loss}}}")
    assert message in error.value.message


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("{stem: ConvLayer}", "network.stem: got 'ConvLayer'; expected a list of layers"),
        ("{head: [3]}", "a name and its arguments such as {ConvLayer: {nf: 8}}; entry 1 is 3"),
        ("{head: [{ConvLayer: , nf: 3}]}", "are the arguments indented?; entry 1 is"),
        ("{norm: 3}", "network.norm: got 3; expected a layer's name"),
        ("{features: 4}", "network.features: only network.head uses it"),
    ],
)
def test_layers_have_names_and_arguments(network, message):
    with pytest.raises(ConfigError) as error:
        parse_config(REGRESSION + f"network: {network}")
    assert message in error.value.message


def test_layers_without_arguments_are_names():
    config = parse_config(
        REGRESSION + "network: {head: [ReLU, {Tanh: {}}, {ELU: }], norm: {A: {}}}"
    )
    assert config.network.head == ["ReLU", "Tanh", "ELU"]
    assert config.network.norm == "A"
    assert parse_config(dump_config(config)) == config
