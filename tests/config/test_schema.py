"""What each key allows, and which keys must agree."""

import re

import pytest
import yaml
from pydantic import ValidationError

from msdtool.config import ExperimentConfig, dump_config, parse_config
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
    assert (training.epochs, training.batch_size, training.learning_rate) == (100, 1, 1e-3)
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
    ("training: {epochs: 1.5}", "training.epochs: got 1.5; expected a whole number"),
    ("training: {epochs: '5'}", "training.epochs: got '5'; expected a whole number"),
    ("training: {epochs: yes}", "training.epochs: got true; expected a whole number"),
    ("training: {epochs: }", "training.epochs: got nothing; expected a whole number"),
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
    ("training: {loss: L3}", "training.loss: got 'L3'; allowed: L1, L2, Huber, L1+SSIM, L2+SSIM, "),
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
    ("network: {dilations: []}", "network.dilations: got []; expected a list that is not empty"),
    ("network: {dilations: [1, 0]}",
     "network.dilations[1]: got 0; expected a number not less than 1"),
    ("network: {padding: mirror}",
     "network.padding: got 'mirror'; allowed: symmetric, reflect, zeros"),
    ("run: {directory: 2024}", "run.directory: got 2024; expected a text"),
    ("run: {directory: ''}", "run.directory: got ''; expected a text that is not empty"),
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
        ("data:", "x:2: data.train: missing: takes the keys input, target, mask"),
        ("data: 3", "x:2: data: got 3; expected keys below it: train, validation"),
        ("data: {train: {input: a}}", "x:2: data.train.target: missing: target images, paired"),
        ("data: {train: {input: [], target: b}}",
         "x:2: data.train.input: got []; expected a path, a glob pattern, or a list of these"),
        ("data: {train: {input: a, target: b}, validation: c}",
         "x:2: data.validation: got 'c'; expected keys below it: input, target, mask, fraction"),
    ],
)  # fmt: skip
def test_data_that_is_not_named_is_missed(data, message):
    (found,) = refusal(f"task: regression\n{data}")
    assert found.startswith(message)


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        ("{}", "give both input and target, or fraction"),
        ("{input: c}", "give both input and target, or fraction"),
        ("{fraction: 0.1, target: c}", "give either input and target, or fraction, not both"),
    ],
)
def test_validation_is_a_set_or_a_fraction(validation, message):
    assert refusal(regression(f"validation: {validation}")) == [f"x:2: data.validation: {message}"]


@pytest.mark.parametrize("fraction", ["0", "1", "-0.1", ".nan"])
def test_a_fraction_lies_between_0_and_1(fraction):
    (found,) = refusal(regression(f"validation: {{fraction: {fraction}}}"))
    assert re.match(r"x:2: data\.validation\.fraction: got .*; expected a (finite )?number", found)


DISAGREEING = [
    (regression(rest="training: {loss: dice}"),
     "x:3: training.loss: got 'dice'; allowed for regression: L1, L2, Huber, L1+SSIM, L2+SSIM"),
    (segmentation("labels: 2", "training: {loss: L1}"),
     "x:3: training.loss: got 'L1'; allowed for segmentation: cross_entropy, dice, "
     "cross_entropy+dice"),
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
    assert refusal(text) == [message]


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
