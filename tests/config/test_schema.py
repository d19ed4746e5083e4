"""What each key allows, and which keys must agree."""

import pytest
import yaml
from pydantic import ValidationError

from msdtool.config import ExperimentConfig, changed_keys, dump_config
from msdtool.config.loss_names import LOSSES
from msdtool.errors import ConfigError
from tests.helpers import parse_config

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
