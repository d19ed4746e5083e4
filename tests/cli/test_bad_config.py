"""Configs and overrides that cannot be used: one clear message, exit code 2, nothing written."""

import pytest
import yaml

from msdtool.config.loss_names import LOSSES

PAIRS = "data: {train: {input: noisy, target: clean}}"
GOOD = f"task: regression\n{PAIRS}\n"
SEGMENTATION = "task: segmentation\ndata: {train: {input: a, target: b}, labels: 3}\n"

# name: (the file's text, the message after "FILE:")
TEXTS = {
    "empty": ("", " expected keys such as task: and data:, found nothing; 'msdtool init' writes a "
              "config to start from"),
    "only a comment": ("# later\n", " expected keys such as task: and data:, found nothing"),
    "a list": ("- a\n- b\n", " expected keys such as task: and data:, found a list"),
    "prose": ("please denoise my images\n", " expected keys such as task: and data:, found a "
              "single value"),
    "unclosed brace": ("task: regression\ndata: {train: {input: a\n", "3:1: not valid YAML: while "
                       "parsing a flow mapping, expected ',' or '}', but got '<stream end>'"),
    "tab": ("task: regression\ndata:\n\ttrain: a\n", "3:1: not valid YAML: while scanning for the "
            "next token, found character '\\t' that cannot start any token; indent with spaces, "
            "not tabs"),
    "wrong indentation": ("task: regression\n  data: 3\n", "2:7: not valid YAML: mapping values "
                          "are not allowed here"),
    "two documents": (f"{GOOD}---\n{GOOD}", "3:1: not valid YAML: expected a single document in "
                      "the stream, but found another document"),
    "python code": ("task: !!python/object/apply:os.system ['touch ran']\n", "1:7: not valid "
                    "YAML: could not determine a constructor for the tag"),
    "key twice": (f"{GOOD}training: {{epochs: 1}}\ntraining: {{epochs: 2}}\n", "4: training: "
                  "given twice, first on line 3; remove one"),
    "self-reference": ("task: &a [*a]\n", " not valid YAML: nested too deeply, or an alias refers "
                       "to itself"),
    "no task": (PAIRS, " task: missing: what the network is for"),
    "no data": ("task: regression\n", " data: missing: takes the keys train, validation, labels"),
    "no target": ("task: regression\ndata:\n  train: {input: a}\n", "3: data.train.target: "
                  "missing: target images, paired with the inputs"),
    "unknown task": (f"task: regresion\n{PAIRS}", "1: task: got 'regresion'; did you mean "
                     "'regression'? Allowed: regression, segmentation"),
    "unknown top key": (f"{GOOD}trainning: {{}}", "3: trainning: unknown key; did you mean "
                        "'training'? Allowed: task, data, network, stream, training, run"),
    "unknown data key": ("task: regression\ndata:\n  train: {input: a, target: b}\n  crops: 5\n",
                         "4: data.crops: unknown key; did you mean 'crop'? Allowed: train, "),
    "unknown pair key": ("task: regression\ndata: {train: {inputs: a, input: b, target: b}}",
                         "2: data.train.inputs: unknown key; did you mean 'input'? Allowed: "
                         "splits, strategy, blind_spot, input, target, mask, swap"),
    "unknown network key": (f"{GOOD}network: {{dilation: [1]}}", "3: network.dilation: unknown "
                            "key; did you mean 'dilations'? Allowed: depth, width, dilations"),
    "unknown training key": (f"{GOOD}training:\n  lr: 1e-3\n", "4: training.lr: unknown key; "
                             "allowed: epochs, batch_size"),
    "unknown run key": (
        f"{GOOD}run: {{dir: x}}",
        "3: run.dir: unknown key; allowed: directory, previews, tensorboard",
    ),
    "text for a number": (f"{GOOD}training: {{epochs: many}}", "3: training.epochs: got 'many'; "
                          "expected an integer"),
    "fraction for a whole number": (f"{GOOD}network: {{depth: 2.5}}", "3: network.depth: got 2.5; "
                                    "expected an integer"),
    "value for a section": (f"{GOOD}training: 5", "3: training: got 5; expected keys below it: "
                            "epochs, batch_size"),
    "number for a path": ("task: regression\ndata: {train: {input: 5, target: b}}", "2: "
                          "data.train.input: got 5; expected a path, a glob pattern, or a list"),
    "zero epochs": (f"{GOOD}training: {{epochs: 0}}", "3: training.epochs: got 0; expected a "
                    "number not less than 1"),
    "negative learning rate": (f"{GOOD}training: {{learning_rate: -1e-3}}", "3: "
                               "training.learning_rate: got -0.001; expected a number greater "
                               "than 0"),
    "NaN learning rate": (f"{GOOD}training: {{learning_rate: .nan}}", "3: training.learning_rate: "
                          "got nan; expected a finite number"),
    "zero dilation": (f"{GOOD}network: {{dilations: [1, 0]}}", "3: network.dilations[1]: got 0; "
                      "expected a number not less than 1"),
    "unknown loss": (f"{GOOD}training: {{loss: MSE}}", "3: training.loss: got 'MSE'; allowed: L1, "
                     "L2"),
    "other time": (f"{GOOD}training: {{max_time: 2 weeks}}", "3: training.max_time: got "
                   "'2 weeks'; expected a time such as 30s, 90m, 11.5h, 2d or 11:30:00"),
    "loss of the other task": (f"{GOOD}training: {{loss: dice}}", "3: training.loss: got 'dice'; "
                               f"allowed for regression: {', '.join(LOSSES['regression'])}"),
    "labels in a regression": ("task: regression\ndata: {train: {input: a, target: b}, labels: 3}",
                               "2: data.labels: only segmentation uses it; remove it or set task: "
                               "segmentation"),
    "no labels": (f"task: segmentation\n{PAIRS}", "2: data.labels: missing, and segmentation "
                  "needs it: the number of labels k, or the list of label values"),
    "class weights": (f"{SEGMENTATION}training: {{class_weights: [1, 2]}}", "3: "
                      "training.class_weights: got 2 weights for 3 labels"),
    "crop and dilations": ("task: regression\ndata: {train: {input: a, target: b}, crop: 8}",
                           "2: data.crop: 8 is too small for the dilation 10 in "
                           "network.dilations with symmetric padding"),
    "crop and ndim": ("task: regression\ndata: {train: {input: a, target: b}, crop: [64, 64, 64]}",
                      "2: data.crop: got 3 sizes; network.ndim is 2"),
    "fraction and set": ("task: regression\ndata:\n  train: {input: a, target: b}\n  validation: "
                         "{fraction: 0.1, input: c}\n", "4: data.validation: give one of these: "
                         "input and target; splits; fraction; slices"),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("command", ["check", "train"])
def test_a_config_that_says_something_else(refused, tmp_path, monkeypatch, command, name):
    monkeypatch.chdir(tmp_path)
    text, message = TEXTS[name]
    (tmp_path / "a.yaml").write_text(text)
    assert refused(command, "a.yaml", code=2).startswith(f"a.yaml:{message}")


def test_all_mistakes_at_once(refused, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("task: regresion\ndata: {train: {input: a}}\ntraining: {epochs: 0}\nx: 1\n")
    found = refused("train", path, code=2).split("\n")
    assert [line.removeprefix(f"{path}:").split(";")[0] for line in found] == [
        "1: task: got 'regresion'",
        "2: data.train.target: missing: target images, paired with the inputs in natural order of "
        "their paths",
        "3: training.epochs: got 0",
        "4: x: unknown key",
    ]


@pytest.mark.parametrize("command", ["check", "train"])
def test_files_that_are_not_text(refused, tmp_path, command):
    path = tmp_path / "a.yaml"
    path.write_bytes("task: régression\n".encode("latin-1"))
    assert refused(command, path, code=2) == f"{path}: not a text file in UTF-8"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    assert refused(command, path, code=2) == f"{path}: not a text file in UTF-8"
    path.write_bytes(b"task: regression\ndata: \x00\n")
    assert refused(command, path, code=2) == (
        f"{path}:2: not valid YAML: contains the character '\\x00', which text files must not "
        "contain"
    )


@pytest.mark.parametrize("command", ["check", "train"])
def test_a_config_that_is_not_there(refused, tmp_path, command):
    assert refused(command, tmp_path / "none.yaml", code=2) == (
        f"{tmp_path}/none.yaml: no such file; 'msdtool init' writes a config to start from"
    )
    assert refused(command, tmp_path, code=2) == f"{tmp_path}: is a folder, not a file"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs", "expected key=value, such as training.epochs=20"),
        ("=20", "expected key=value, such as training.epochs=20"),
        ("training.epochs=[", "the value is not valid YAML"),
        ("training.epochs=many", "training.epochs: got 'many'; expected an integer"),
        ("training.epoch=2", "training.epoch: unknown key; did you mean 'epochs'?"),
        ("training.epochs.a=2", "training.epochs: got {'a': 2}; expected an integer"),
        ("data.labels=3", "data.labels: only segmentation uses it"),
    ],
)
@pytest.mark.parametrize("command", ["check", "train"])
def test_an_override_that_says_something_else(refused, tmp_path, command, override, message):
    path = tmp_path / "a.yaml"
    path.write_text(GOOD)
    found = refused(command, path, "--set", override, code=2)
    assert found.startswith(f"--set {override}: {message}")


@pytest.mark.parametrize("name", ["2024", "null", "a: b", "[x]", "#1"])
def test_a_run_directory_may_have_any_name(cli, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(GOOD)
    code, out, _ = cli("train", "a.yaml", "--run-dir", name, "--dry-run")
    assert code == 0
    assert yaml.safe_load(out)["run"]["directory"] == f"{tmp_path}/{name}"
