"""Keys that must fit each other."""

import pytest

from msdtool.config import parse_config
from msdtool.errors import ConfigError

REGRESSION = "task: regression\ndata: {train: {input: a, target: b}}\n"
SEGMENTATION = "task: segmentation\ndata: {train: {input: a, target: b}, labels: 3}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (REGRESSION + "training: {huber_delta: 2}", "huber_delta: only loss: Huber uses"),
        (
            REGRESSION + "training: {cuda_graphs: true, accumulate: 2}",
            "training.cuda_graphs: every backward pass overwrites the gradients of the prev",
        ),
        (
            REGRESSION + "training: {ssim_weight: 0.5}",
            "ssim_weight: only a loss with SSIM",
        ),
        (
            REGRESSION + "training: {plateau_patience: 2}",
            "training.plateau_patience: only schedule: plateau uses it; remove it",
        ),
        (
            SEGMENTATION + "training: {loss: dice, class_weights: balanced}",
            "training.class_weights: only cross_entropy uses it; remove it or change the loss",
        ),
        (
            REGRESSION.replace("}}", "}, crop: 10}") + "training: {loss: L1+SSIM}",
            "data.crop: SSIM, in training.loss, needs at least 11 pixels",
        ),
        (
            REGRESSION.replace("}}", "}, slab: 2}") + "network: {ndim: 3}",
            "data.slab: is for network.ndim: 2; a network with ndim: 3 sees the neighbouring",
        ),
        (
            REGRESSION.replace("}}", "}, augment: in_plane}"),
            "data.augment: in_plane is for network.ndim: 3; set true",
        ),
        (
            REGRESSION.replace("}}", "}, crops_per_image: 2}"),
            "data.crops_per_image: only data.crop uses it; remove it",
        ),
        (
            SEGMENTATION.replace("}, l", "}, foreground: {fraction: 1}, l"),
            "data.foreground: only data.crop uses it; remove it",
        ),
        (
            SEGMENTATION.replace("}, l", "}, crop: 32, foreground: {fraction: 1, above: 2}, l"),
            "data.foreground.above: only regression uses it; name labels instead",
        ),
        (
            SEGMENTATION.replace(
                "}, l", "}, crop: 32, foreground: {fraction: 1, labels: [2, 7]}, l"
            ),
            "data.foreground.labels: 7: not among data.labels",
        ),
        (
            REGRESSION.replace("}}", "}, crop: 32, foreground: {fraction: 1, labels: [2]}}"),
            "data.foreground.labels: only segmentation uses it; give above instead",
        ),
        (
            REGRESSION.replace("}}", "}, crop: 32, foreground: {fraction: 1}}"),
            "data.foreground.above: missing: the target value above which a pixel is foreground",
        ),
        (REGRESSION.replace("}}", "}, intensity: {}}"), "data.intensity: is empty; give some of"),
        (
            REGRESSION.replace("}}", "}, validation: {fraction: 0.1, overlap: 2}}"),
            "data.validation.overlap: only patch uses it; remove it",
        ),
        (
            REGRESSION.replace("}}", "}, validation: {fraction: 0.1, patch: 32, overlap: 32}}"),
            "data.validation.overlap: 32 is not smaller than the patch, 32",
        ),
        (
            REGRESSION.replace("}}", "}, validation: {fraction: 0.1, patch: 9}}"),
            "data.validation.patch: 9 is too small for the dilation 10 in network.dilations",
        ),
        (
            REGRESSION.replace("}}", "}, validation: {fraction: 0.1, patch: [32, 32, 32]}}"),
            "data.validation.patch: got 3 sizes; network.ndim is 2",
        ),
        (SEGMENTATION + "training: {class_weights: [1, 2]}", "got 2 weights for 3 labels"),
        (
            REGRESSION + "stream: {axis: 0}",
            "network.ndim: stream needs 3: it treats volumes as image sequences",
        ),
        (
            REGRESSION.replace("}}", "}, augment: true}") + "stream: {axis: 1}\nnetwork: {ndim: 3}",
            "data.augment: would mix time and space; set in_plane, with stream.axis: 0",
        ),
        (
            SEGMENTATION + "training: {loss: L1}",
            "got 'L1'; allowed for segmentation: cross",
        ),
    ],
)
def test_a_key_that_nothing_would_read_is_refused(text, message):
    with pytest.raises(ConfigError) as error:
        parse_config(text)
    assert message in error.value.message
    assert "\n" not in error.value.message


def test_dilations_reach_over_frames_only():
    text = REGRESSION.replace("}}", "}, crop: [3, 12, 12]}")
    parse_config(text + "stream: {axis: 0}\nnetwork: {ndim: 3}")
    with pytest.raises(ConfigError, match=r"3 is too small for the dilation 10"):
        parse_config(text + "network: {ndim: 3}")
    with pytest.raises(ConfigError, match=r"3 is too small for the dilation 10"):
        parse_config(text + "stream: {axis: 1}\nnetwork: {ndim: 3}")


@pytest.mark.parametrize(
    "training",
    [
        "{loss: Huber, huber_delta: 2}",
        "{loss: L1+SSIM, ssim_weight: 0.5}",
        "{schedule: plateau, plateau_patience: 2}",
        "{huber_delta: 1.0}",  # the default, as a resolved config holds it
    ],
)
def test_a_key_that_is_read_is_accepted(training):
    assert parse_config(f"{REGRESSION}training: {training}").task == "regression"
