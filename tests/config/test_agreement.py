"""Keys that must fit each other."""

import pytest

from msdtool.errors import ConfigError
from tests.helpers import parse_config

REGRESSION = "task: regression\ndata: {train: {input: a, target: b}}\n"
SHA = "ab" * 32
BLIND = "task: regression\ndata: {train: {input: a, blind_spot: {}}}\n"
VALIDATED = REGRESSION.replace("}}", "}, validation: {fraction: 0.1}}")
NOISY = VALIDATED.replace("input: a, target: b", "splits: [a, b]")
BLIND_NOISY = BLIND.replace("}}}", "}}, validation: {fraction: 0.1}}")
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
            REGRESSION + "training: {cuda_graphs: true, precision: fp16}",
            "training.cuda_graphs: graphs are captured in float32 or tf32, training.precision is "
            "fp16; change one of them",
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
            "training.class_weights: only cross_entropy and focal use it; remove it or change",
        ),
        (
            REGRESSION.replace("}}", "}, crop: 10}") + "training: {loss: L1+SSIM}",
            "data.crop: SSIM, in training.loss, needs at least 11 pixels",
        ),
        (
            REGRESSION.replace("}}", "}, crop: 87}")
            + "training: {loss: MS-SSIM, ms_ssim_scales: 4}",
            "data.crop: MS-SSIM, in training.loss, needs at least 88 pixels with training.ms_ssim_",
        ),
        *(
            (f"{start}training: {{{key}: {value}}}", f"training.{key}: only loss: {loss} uses it")
            for start, key, value, loss in (
                (REGRESSION, "ms_ssim_scales", 3, "MS-SSIM"),
                (REGRESSION, "top_k_fraction", 0.2, "top_k"),
                (SEGMENTATION, "focal_gamma", 1.0, "focal"),
                (SEGMENTATION, "tversky_alpha", 0.5, "tversky"),
                (SEGMENTATION, "tversky_beta", 0.5, "tversky"),
            )
        ),
        *(
            (
                f"{REGRESSION}training: {{{text}}}",
                f"training.{text.split(':')[0]}: only training.initial uses it; remove it",
            )
            for text in ("freeze: [block]", "initial_normalisation: keep", f"initial_sha256: {SHA}")
        ),
        (
            REGRESSION + "training: {initial: a, freeze: [stem]}",
            "training.freeze: stem: network.stem has no layers; remove it",
        ),
        (
            REGRESSION + "training: {initial: a, freeze: [{block: 101}]}",
            "training.freeze: block: got 101 layers; network.depth is 100",
        ),
        *(
            (BLIND.replace("{}", spots) + more, f"{key}: {message}")
            for spots, more, key, message in (
                ("{}", "training: {loss: [L1, {TV: 0.1}]}", "training.loss", "got TV; with blind"),
                ("{}, target: b", "", "data.train.target", "blind_spot replaces it; remove one"),
                ("{}, swap: true", "", "data.train.swap", "blind_spot has no pairs; remove one"),
                ("{mask: {Z: 2}}", "", "data.train.blind_spot.mask", "Z is for network.ndim: 3"),
                ("{}}, geometry: {scale: [0.9, 1.1]", "", "data.geometry", "interpolation spreads"),
            )
        ),
        (
            "task: regression\ndata: {train: {splits: [a, b], blind_spot: {}}}",
            "data.train.splits: blind_spot replaces it; remove one of them",
        ),
        (
            "task: segmentation\ndata: {train: {input: a, blind_spot: {}}, labels: 3}",
            "data.train.blind_spot: is for task: regression",
        ),
        (
            SEGMENTATION.replace("target: b", "target: b, swap: true"),
            "data.train.swap: is for task: regression",
        ),
        (
            "task: regression\ndata: {train: {splits: [a, b], swap: true}}",
            "data.train.swap: splits go in all directions anyway; remove it",
        ),
        (REGRESSION + "training: {loss: TV}", "training.loss: got 'TV'"),
        (
            SEGMENTATION + "training: {loss: [dice, edge]}",
            "training.loss: in a list for segmentation: got 'edge'; allowed: cross_entropy, dice",
        ),
        (
            REGRESSION + "training: {loss: MS-SSIM, ssim_weight: 0.5}",
            "training.ssim_weight: only a loss with SSIM uses it; remove it",
        ),
        *(
            (
                start.replace("}, labels", "}, " + keys + ", labels")
                if "labels" in start
                else start.replace("}}", "}, " + keys + "}"),
                f"data.normalisation.{message}",
            )
            for start, keys, message in (
                (REGRESSION, "normalisation: {method: range}", "range: missing: the two values"),
                (REGRESSION, "normalisation: {range: [0, 1]}", "range: only method: range uses it"),
                (
                    REGRESSION,
                    "normalisation: {target_range: [0, 1]}",
                    "target_range: only method: range of a regression uses it",
                ),
                (
                    SEGMENTATION,
                    "normalisation: {method: range, range: [0, 1], target_range: [0, 1]}",
                    "target_range: only method: range of a regression uses it",
                ),
                (
                    REGRESSION,
                    "normalisation: {percentiles: [2, 98]}",
                    "percentiles: only method: percentile uses it",
                ),
                (
                    REGRESSION,
                    "normalisation: {method: none, per: image}",
                    "per: method: none is the same for all images",
                ),
                (
                    REGRESSION,
                    "normalisation: {target: dataset}",
                    "target: only per: image of a regression uses it",
                ),
                (
                    SEGMENTATION,
                    "normalisation: {per: image, target: dataset}",
                    "target: only per: image of a regression uses it",
                ),
            )
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
        (
            REGRESSION.replace("}}", "}, geometry: {in_plane: false}}"),
            "data.geometry: changes nothing; give some of rotation, scale, elastic, or remove it",
        ),
        (
            REGRESSION.replace("}}", "}, geometry: {scale: [1, 2], in_plane: true}}"),
            "data.geometry.in_plane: is for network.ndim: 3; remove it",
        ),
        (
            REGRESSION.replace("}}", "}, geometry: {scale: [1, 2], elastic_sigma: 9}}"),
            "data.geometry.elastic_sigma: only elastic uses it; remove it",
        ),
        (
            REGRESSION.replace("}}", "}, geometry: {elastic: [0, 5]}}"),
            "data.geometry.elastic: 5 is more than half of elastic_sigma, 8: the image would fold",
        ),
        (
            REGRESSION.replace("}}", "}, geometry: {rotation: [0, 9]}}")
            + "stream: {axis: 0}\nnetwork: {ndim: 3}",
            "data.geometry.in_plane: must be true, with stream.axis: 0, or time and space would",
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
        *(
            (f"{start}training: {{select: {select}}}", f"training.select: got {select}{message}")
            for start, select, message in (
                (REGRESSION, "psnr", ", which needs images to validate on; set data.validation"),
                (VALIDATED, "frc", "; allowed for this experiment: loss, psnr, ssim"),
                (NOISY, "ssim", "; allowed for this experiment: loss, frc, edges"),
                (
                    NOISY.replace("}}", "}, slab: 1}"),
                    "frc",
                    "; allowed for this experiment: loss, edges",
                ),
                (
                    NOISY.replace("}}", "}, normalisation: {per: image, target: dataset}}"),
                    "frc",
                    "; allowed for this experiment: loss, edges",
                ),
                (BLIND_NOISY, "frc", "; allowed for this experiment: loss, edges"),
                (NOISY.replace("0.1", "0.1, patch: 90"), "frc", ", which is of whole images; rem"),
                (NOISY.replace("[a, b]", "[a, b], mask: c"), "edges", ", which is of whole imag"),
                (
                    SEGMENTATION.replace("3}", "3, validation: {fraction: 0.1}}"),
                    "edges",
                    "; allowed for this experiment: loss, accuracy, mean_iou, mean_dice",
                ),
            )
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
        "{select: loss}",
        "{huber_delta: 1.0}",  # the default, as a resolved config holds it
    ],
)
def test_a_key_that_is_read_is_accepted(training):
    assert parse_config(f"{REGRESSION}training: {training}").task == "regression"


@pytest.mark.parametrize(
    ("text", "select"),
    [(VALIDATED, "ssim"), (NOISY, "frc"), (BLIND_NOISY, "edges"), (NOISY, "loss")],
)
def test_what_validation_measures_can_be_selected(text, select):
    assert parse_config(f"{text}training: {{select: {select}}}").training.select == select


@pytest.mark.parametrize(
    ("network", "fits"),
    [
        ("{depth: 10000}", True),
        ("{depth: 100, width: 100}", True),
        ("{depth: 10000, width: 10000}", False),
        ("{depth: 10000, ndim: 3}", False),
    ],
)
def test_a_network_that_no_memory_holds_is_refused(network, fits):
    text = REGRESSION + f"network: {network}\n"
    if fits:
        parse_config(text)
        return
    with pytest.raises(ConfigError, match=r"network.width: \d+, with network.depth 10000, needs "):
        parse_config(text)
