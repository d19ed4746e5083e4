"""What each key allows, and which keys must agree."""

import re

import pytest
import yaml
from pydantic import ValidationError

from msdtool.config import ExperimentConfig, changed_keys, dump_config, parse_config
from msdtool.config.schema import LOSS_TERMS, LOSSES
from msdtool.errors import ConfigError

PAIRS = "train: {input: a, target: b}"
REGRESSION = f"task: regression\ndata: {{{PAIRS}}}\n"


def refusal(text):
    with pytest.raises(ConfigError) as error:
        parse_config(text, "x")
    return error.value.message.split("\n")


def regression(data="", rest=""):
    return f"task: regression\ndata: {{{PAIRS}, {data}}}\n{rest}"


def segmentation(data="", rest=""):
    return f"task: segmentation\ndata: {{{PAIRS}, {data}}}\n{rest}"


def test_every_default_of_the_documented_contract():
    config = parse_config(REGRESSION)
    network, training = config.network, config.training
    assert (network.depth, network.width, network.ndim) == (100, 1, 2)
    assert network.dilations == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert network.padding == "symmetric"
    assert (training.epochs, training.batch_size, training.learning_rate) == (100, 1, 1e-2)
    assert (training.schedule, training.warmup, training.gradient_clip) == ("cosine", 50, 1.0)
    assert (training.loss, training.seed, training.optimizer) == ("L2", 0, "adam")
    assert config.data.validation is None and not config.data.collapse_channels
    assert config.label_values == [] and config.num_labels == 0 and config.crop_size is None


def test_the_default_loss_depends_on_the_task():
    assert parse_config(segmentation("labels: 2")).training.loss == "cross_entropy"
    text = segmentation("labels: 2", "training: {loss: dice}")
    assert parse_config(text).training.loss == "dice"


@pytest.mark.parametrize(("labels", "values"), [("3", [0, 1, 2]), ("[255, 0]", [255, 0])])
def test_labels_keep_their_order(labels, values):
    config = parse_config(segmentation(f"labels: {labels}"))
    assert config.label_values == values
    assert config.num_labels == len(values)


@pytest.mark.parametrize(
    ("crop", "ndim", "size"),
    [("32", 2, (32, 32)), ("32", 3, (32, 32, 32)), ("[16, 32]", 2, (16, 32))],
)
def test_a_crop_has_a_size_per_axis(crop, ndim, size):
    assert parse_config(regression(f"crop: {crop}", f"network: {{ndim: {ndim}}}")).crop_size == size


def test_a_config_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        parse_config(REGRESSION).network.depth = 3


def test_an_empty_section_means_its_defaults():
    assert parse_config(REGRESSION + "network:\ntraining:\nrun:\n") == parse_config(REGRESSION)


# One line of YAML, and what is said about it.
WRONG_VALUES = [
    ("training: {epochs: 0}", "training.epochs: got 0; expected a number not less than 1"),
    ("training: {epochs: 1.5}", "training.epochs: got 1.5; expected an integer"),
    ("training: {epochs: '5'}", "training.epochs: got '5'; expected an integer"),
    ("training: {epochs: yes}", "training.epochs: got true; expected an integer"),
    ("training: {epochs: }", "training.epochs: got nothing; expected an integer"),
    ("training: {learning_rate: 0}",
     "training.learning_rate: got 0; expected a number greater than 0"),
    ("training: {learning_rate: fast}",
     "training.learning_rate: got 'fast'; expected a number"),
    ("training: {learning_rate: .inf}",
     "training.learning_rate: got inf; expected a finite number"),
    ("training: {ssim_weight: 1}", "training.ssim_weight: got 1; expected a number less than 1"),
    ("training: {seed: -1}", "training.seed: got -1; expected a number not less than 0"),
    ("training: {seed: 4294967296}", "training.seed: got 4294967296; expected a number less than"),
    ("training: {max_time: soon}",
     "training.max_time: got 'soon'; expected a time such as 30s, 90m, 11.5h, 2d or 11:30:00"),
    ("training: {loss: L3}",
     f"training.loss: got 'L3'; allowed: {', '.join(dict.fromkeys(sum(LOSSES.values(), ())))}"),
    ("training: {loss: huber}", "training.loss: got 'huber'; did you mean 'Huber'? Allowed: L1"),
    ("training: {device: gpu}",
     "training.device: got 'gpu'; did you mean 'cpu'? Allowed: auto, cpu, cuda"),
    ("training: 5", "training: got 5; expected keys below it: epochs, batch_size"),
    ("training: [1]", "training: got [1]; expected keys below it: epochs"),
    ("training: {lerning_rate: 1}", "training.lerning_rate: unknown key; did you mean "
     "'learning_rate'? Allowed: epochs, batch_size"),
    ("training: {1: 2}", "training.1: unknown key; allowed: epochs"),
    ("trainin: {}",
     "trainin: unknown key; did you mean 'training'? Allowed: task, data, network, stream, "
     "training, run"),
    ("xyz: 1", "xyz: unknown key; allowed: task, data, network, stream, training, run"),
    ("network: {ndim: 4}", "network.ndim: got 4; allowed: 2, 3"),
    ("network: {ndim: '2'}", "network.ndim: got '2'; allowed: 2, 3, without quotes"),
    ("network: {dilations: 3}",
     "network.dilations: got 3; expected a list, such as [1, 2, 3]"),
    ("network: {dilations: []}", "network.dilations: got []; expected a non-empty list"),
    ("network: {dilations: [1, 0]}",
     "network.dilations[1]: got 0; expected a number not less than 1"),
    ("network: {padding: mirror}",
     "network.padding: got 'mirror'; allowed: symmetric, reflect, zeros"),
    ("training: {learning_rate: 1e38}", "training.learning_rate: got 1e+38; expected a number not "
     "greater than 1e+06"),
    ("training: {weight_decay: 1e38}", "training.weight_decay: got 1e+38; expected a number not "
     "greater than 1e+06"),
    ("training: {ms_ssim_scales: 6}",
     "training.ms_ssim_scales: got 6; expected a number not greater than 5"),
    ("training: {top_k_fraction: 0}",
     "training.top_k_fraction: got 0; expected a number greater than 0"),
    ("training: {focal_gamma: -1}",
     "training.focal_gamma: got -1; expected a number not less than 0"),
    ("training: {tversky_alpha: 0}",
     "training.tversky_alpha: got 0; expected a number greater than 0"),
    ("training: {tversky_beta: .inf}",
     "training.tversky_beta: got inf; expected a finite number"),
    ("run: {directory: 2024}", "run.directory: got 2024; expected a non-empty string"),
    ("run: {directory: ''}", "run.directory: got ''; expected a non-empty string"),
    ("run: {previews: maybe}", "run.previews: got 'maybe'; expected true or false"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), WRONG_VALUES, ids=[line for line, _ in WRONG_VALUES])
def test_a_wrong_value_is_refused_in_words(line, message):
    (found,) = refusal(REGRESSION + line)
    assert found.startswith(f"x:3: {message}")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "x: data: missing: takes the keys train, validation, labels"),
        ("data:", "x:2: data.train: missing: what to train on: keys input and target, or splits"),
        ("data: 3", "x:2: data: got 3; expected keys below it: train, validation"),
        ("data: {train: {input: a}}", "x:2: data.train.target: missing: target images, paired"),
        ("data: {train: {input: [], target: b}}",
         "x:2: data.train.input: got []; expected a path, a glob pattern, or a list of these"),
        ("data: {train: {input: a, target: b}, validation: c}",
         "x:2: data.validation: got 'c'; expected keys below it: input, target, mask, splits"),
    ],
)  # fmt: skip
def test_data_that_is_not_named_is_missed(data, message):
    (found,) = refusal(f"task: regression\n{data}")
    assert found.startswith(message)


ONE_SOURCE = "give one of these: input and target; splits; fraction; slices"


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        ("{}", ONE_SOURCE),
        ("{input: c}", ONE_SOURCE),
        ("{fraction: 0.1, target: c}", ONE_SOURCE),
        ("{fraction: 0.1, slices: [1, 2]}", ONE_SOURCE),
        ("{splits: [a, b], input: c, target: d}", ONE_SOURCE),
        (
            "{fraction: 0.1, mask: c}",
            "held-out images use the mask of data.train; remove mask",
        ),
    ],
)
def test_validation_is_a_set_or_a_fraction(validation, message):
    assert refusal(regression(f"validation: {validation}")) == [f"x:2: data.validation: {message}"]


@pytest.mark.parametrize("fraction", ["0", "1", "-0.1", ".nan"])
def test_a_fraction_lies_between_0_and_1(fraction):
    (found,) = refusal(regression(f"validation: {{fraction: {fraction}}}"))
    assert re.match(r"x:2: data\.validation\.fraction: got .*; expected a (finite )?number", found)


WRONG_DATA = [
    ("train: {splits: [a]}", "data.train.splits: got ['a']; expected a list of two or more"),
    ("train: {splits: a}", "data.train.splits: got 'a'; expected a list of two or more"),
    ("train: {splits: [a, 3]}", "data.train.splits[1]: got 3; expected a path, a glob pattern"),
    ("train: {splits: [a, b], strategy: 2:X}",
     "data.train.strategy: got '2:X'; did you mean '1:X'? Allowed: X:1, 1:X"),
    ("augment: yes please", "data.augment: got 'yes please'; expected true, false or in_plane"),
    ("augment: 1", "data.augment: got 1; expected true, false or in_plane"),
    ("slab: -1", "data.slab: got -1; expected a number not less than 0"),
    ("fraction: 0", "data.fraction: got 0; expected a number greater than 0"),
    ("intensity: {gain: 2}", "data.intensity.gain: got 2; expected the minimum and the maximum, "
     "such as [-0.1, 0.1]"),
    ("intensity: {gain: [0, 1]}",
     "data.intensity.gain: got [0, 1]; expected a range above 0, such as [0.8, 1.25]"),
    ("intensity: {blur: [-1, 1]}",
     "data.intensity.blur: got [-1, 1]; expected a range not below 0, such as [0, 0.2]"),
    ("intensity: {offset: [1, 0]}", "data.intensity.offset: got [1, 0]; expected the minimum and"),
    ("intensity: {offset: [0, .nan]}", "data.intensity.offset: got [0, nan]; expected the"),
    ("intensity: {contrast: [0, 1]}", "data.intensity.contrast: unknown key; allowed: blur, gamma, "
     "gain, offset, poisson_noise, gaussian_noise"),
    ("geometry: {rotation: [-200, 0]}", "data.geometry.rotation: got [-200, 0]; expected a range "
     "within -180 to 180 degrees, such as [-15, 15]"),
    ("geometry: {rotation: 15}", "data.geometry.rotation: got 15; expected the minimum and the"),
    ("geometry: {scale: [0, 1]}",
     "data.geometry.scale: got [0, 1]; expected a range above 0, such as [0.8, 1.25]"),
    ("geometry: {elastic: [-1, 1]}", "data.geometry.elastic: got [-1, 1]; expected a range not "
     "below 0"),
    ("geometry: {elastic: [0, 1], elastic_sigma: 0}",
     "data.geometry.elastic_sigma: got 0; expected a number greater than 0"),
    ("geometry: {shear: [0, 1]}",
     "data.geometry.shear: unknown key; allowed: rotation, scale, elastic, elastic_sigma"),
    ("cut_out: [0, 1]",
     "data.cut_out: got [0, 1]; expected a range from 0 to below 1, such as [0, 0.25]"),
    ("cut_out: 0.5", "data.cut_out: got 0.5; expected the minimum and the maximum"),
    ("foreground: {}", "data.foreground.fraction: missing: fraction of the crops that contain a "
     "foreground pixel, 0 to 1"),
    ("foreground: {fraction: 2}", "data.foreground.fraction: got 2; expected a number not greater"),
    ("foreground: {fraction: 1, labels: []}",
     "data.foreground.labels: got []; expected a non-empty list"),
    *((f"validation: {{slices: {slices}}}", f"data.validation.slices: got {slices}; expected the "
       "first slice and the one after the last, such as [200, 256], or a list of such ranges")
      for slices in ("[1]", "[5, 5]", "[-2, 4]", "[[0, 1], 2]", "3", "[]")),
    ("validation: {slices: [[0, 3], [2, 5]]}", "data.validation.slices: got [[0, 3], [2, 5]]; "
     "expected ranges that do not overlap"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), WRONG_DATA, ids=[line for line, _ in WRONG_DATA])
def test_wrong_data_keys_are_refused_in_words(line, message):
    text = f"task: regression\ndata: {{{line}}}" if line.startswith("train") else regression(line)
    (found,) = refusal(text)
    assert found.startswith(f"x:2: {message}")


def test_slices_are_a_range_or_several():
    for text in ("[3, 5]", "[[3, 5]]"):
        config = parse_config(regression(f"validation: {{slices: {text}}}"))
        assert config.data.validation.slices == [[3, 5]]
    config = parse_config(regression("validation: {slices: [[3, 5], [0, 3]]}"))
    assert config.data.validation.slices == [[0, 3], [3, 5]]


def test_patches_overlap_by_a_quarter_unless_told():
    text = "validation: {fraction: 0.5, patch: [48, 32]}"
    for validation, overlap in ((text, 8), (text.replace("}", ", overlap: 0}"), 0)):
        assert parse_config(regression(validation)).data.validation.patch_overlap(2) == overlap


def splits(data="", train=""):
    return f"task: regression\ndata: {{train: {{splits: [a, b, c], {train}}}, {data}}}\n"


DISAGREEING = [
    (splits(train="input: a"), "x:2: data.train.input: splits replace it; remove one of them"),
    (splits("validation: {input: a, target: b}"),
     "\n".join(f"x:2: data.validation.{name}: training on splits is validated on splits, a "
               "fraction or slices; if there are clean images, evaluate on them with "
               "'msdtool evaluate'"
               for name in ("input", "target"))),
    (splits("validation: {splits: [a, b]}"),
     "x:2: data.validation.splits: got 2; data.train.splits are 3"),
    (splits("labels: 2").replace("regression", "segmentation"),
     "x:2: data.train.splits: are for task: regression"),
    (regression("validation: {splits: [a, b]}"),
     "x:2: data.validation.splits: only training on data.train.splits uses them"),
    ("task: regression\ndata: {train: {input: a, target: b, strategy: 1:X}}",
     "x:2: data.train.strategy: only splits use it; remove it"),
    (regression(rest="training: {loss: dice}"),
     f"x:3: training.loss: got 'dice'; allowed for regression: {', '.join(LOSSES['regression'])}"),
    (segmentation("labels: 2", "training: {loss: L1}"),
     "x:3: training.loss: got 'L1'; allowed for segmentation: "
     f"{', '.join(LOSSES['segmentation'])}"),
    (segmentation(), "x:2: data.labels: missing, and segmentation needs it: the number of labels "
     "k, or the list of label values in the target images"),
    (segmentation("labels: 2", "training: {class_weights: [1, 2, 3]}"),
     "x:3: training.class_weights: got 3 weights for 2 labels"),
    (segmentation("labels: 2, data_range: 1"),
     "x:2: data.data_range: only regression uses it; remove it"),
    (segmentation("labels: [0, 5], ignore: 5"), "x:2: data.ignore: 5 is also one of data.labels; "
     "choose a value that is not a label"),
    (regression("labels: 2"),
     "x:2: data.labels: only segmentation uses it; remove it or set task: segmentation"),
    (regression("ignore: 2"),
     "x:2: data.ignore: only segmentation uses it; remove it or set task: segmentation"),
    (regression(rest="training: {class_weights: balanced}"),
     "x:3: training.class_weights: only segmentation uses it; remove it or set task: "
     "segmentation"),
    (regression("crop: [32, 32, 32]"), "x:2: data.crop: got 3 sizes; network.ndim is 2"),
    (regression("crop: 9"), "x:2: data.crop: 9 is too small for the dilation 10 in "
     "network.dilations with symmetric padding"),
    (regression("crop: [64, 10]", "network: {padding: reflect}"),
     "x:2: data.crop: 10 is too small for the dilation 10 in network.dilations with reflect "
     "padding"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), DISAGREEING)
def test_keys_that_disagree_are_named(text, message):
    assert "\n".join(refusal(text)) == message


@pytest.mark.parametrize(
    ("crop", "network"),
    [
        ("10", "{}"),
        ("11", "{padding: reflect}"),
        ("2", "{padding: zeros}"),
        ("3", "{depth: 3}"),
        ("2", "{dilations: [1, 2]}"),
    ],
)
def test_a_crop_may_be_as_small_as_the_border_rule_allows(crop, network):
    assert parse_config(regression(f"crop: {crop}", f"network: {network}")).data.crop == int(crop)


def test_all_mistakes_are_reported_at_once():
    text = """\
task: regresion
data:
  train: {input: 3}
  crop: 0
network: {dept: 3, dilations: [0, a]}
training:
  epochs: -1
  loss: L2
"""
    found = refusal(text)
    places = [line.split(": ")[:2] for line in found]
    assert places == [
        ["x:1", "task"],
        ["x:3", "data.train.input"],
        ["x:3", "data.train.target"],
        ["x:4", "data.crop"],
        ["x:5", "network.dilations[0]"],
        ["x:5", "network.dilations[1]"],
        ["x:5", "network.dept"],
        ["x:7", "training.epochs"],
    ]


def test_the_resolved_config_says_the_same():
    config = parse_config(segmentation("labels: [0, 9], crop: 32", "training: {max_time: 2h}"))
    text = dump_config(config)
    assert parse_config(text) == config
    sections = yaml.safe_load(text)
    assert list(sections) == list(ExperimentConfig.model_fields)
    assert set(sections["training"]) == set(type(config.training).model_fields)


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


def test_a_change_of_layers_is_a_change_of_the_experiment():
    layers = ["ReLU", "{LeakyReLU: {inplace: true}}", "{ELU: {inplace: true}}", "{A: {b: {}}}"]
    configs = [parse_config(REGRESSION + f"network: {{activation: {a}}}") for a in layers]
    for number, before in enumerate(configs):
        for other, after in enumerate(configs):
            assert bool(changed_keys(before, after)) == (number != other)


def test_errors_found_later_have_file_and_line():
    config = parse_config(REGRESSION + "network:\n  head:\n    - ReLU: {inplace: 1}", "x.yaml")
    error = config.error(("network", "head", 0, "ReLU", "inplace"), "is wrong")
    assert error.message.endswith(": network.head[0].ReLU.inplace: is wrong")
    assert error.message.startswith(f"x.yaml:{REGRESSION.count(chr(10)) + 3}:")
