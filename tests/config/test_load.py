"""A file and overrides become one config."""

from pathlib import Path

import pytest

from msdtool.config import (
    changed_keys,
    dump_config,
    load_config,
    load_saved_config,
)
from msdtool.data.specifiers import Location, expand
from msdtool.errors import ConfigError
from tests.helpers import parse_config

TEXT = """\
task: regression
data:
  train: {input: noisy/*.tif, target: [clean/a.tif, /data/b.tif]}
  validation: {input: ~/noisy, target: ../clean}
training: {epochs: 5}
"""


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """A config in a folder that is not the current one."""
    path = tmp_path / "project" / "denoise.yaml"
    path.parent.mkdir()
    path.write_text(TEXT)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return path


def refusal(path, *overrides):
    with pytest.raises(ConfigError) as error:
        load_config(path, overrides)
    return error.value.message


def test_relative_paths_count_from_the_files_folder(experiment):
    folder = experiment.parent
    config = load_config("../project/denoise.yaml")
    assert config.data.train.input == f"{folder}/noisy/*.tif"
    assert config.data.train.target == [f"{folder}/clean/a.tif", "/data/b.tif"]
    assert config.data.validation.input == "~/noisy"
    assert config.data.validation.target == f"{folder}/../clean"
    assert config.run.directory == f"{folder}/runs/experiment"


def test_the_run_directory_counts_from_the_files_folder(experiment):
    experiment.write_text(TEXT + "run: {directory: out}")
    assert load_config(experiment).run.directory == f"{experiment.parent}/out"
    experiment.write_text(TEXT + "run: {previews: false}")
    assert load_config(experiment).run.directory == f"{experiment.parent}/runs/experiment"


def test_the_initial_network_counts_from_the_files_folder(experiment):
    text = TEXT.replace("{epochs: 5}", "{initial: 'runs/[1]/best.pt'}")
    experiment.write_text(text)
    assert load_config(experiment).training.initial == f"{experiment.parent}/runs/[1]/best.pt"
    found = load_config(experiment, ["training.initial=run"]).training.initial
    assert found == f"{experiment.parent.parent}/elsewhere/run"


def test_brackets_in_the_files_folder_are_no_pattern(tmp_path):
    folder = tmp_path / "scan[1]"
    (folder / "noisy").mkdir(parents=True)
    (folder / "noisy" / "a.tif").touch()
    path = folder / "a.yaml"
    path.write_text("task: regression\ndata: {train: {input: noisy/*.tif, target: noisy}}\n")
    data = load_config(path).data.train
    assert expand(data.input) == expand(data.target) == [Location(folder / "noisy" / "a.tif")]


@pytest.mark.parametrize("run", ["[]", "5", "''"])
def test_a_run_section_that_is_none_is_refused(experiment, run):
    experiment.write_text(TEXT + f"run: {run}")
    assert "run: got" in refusal(experiment)


def test_paths_in_overrides_count_from_the_current_folder(experiment):
    overrides = [
        "data.train.input=new/*.tif",
        "data.validation={input: [a, /b], target: c}",
        "run.directory=out",
    ]
    config = load_config(experiment, overrides)
    here = Path.cwd()
    assert config.data.train.input == f"{here}/new/*.tif"
    assert config.data.validation.input == [f"{here}/a", "/b"]
    assert config.data.validation.target == f"{here}/c"
    assert config.run.directory == f"{here}/out"


def test_a_link_to_a_config_counts_from_the_links_target(experiment):
    link = Path("link.yaml")
    link.symlink_to(experiment)
    assert load_config(link).run.directory == load_config(experiment).run.directory


def test_overrides_are_yaml_and_later_ones_win(experiment):
    overrides = [
        "training.epochs=7",
        "network.dilations=[1, 2]",
        "training.learning_rate=1e-4",
        "training.max_time=11:30:00",
        "data.augment=true",
        "training.patience=",
        "training.epochs=9",
    ]
    config = load_config(experiment, overrides)
    assert config.training.epochs == 9
    assert config.network.dilations == [1, 2]
    assert config.training.learning_rate == 1e-4
    assert config.training.max_time == 41400
    assert config.data.augment is True
    assert config.training.patience is None


def test_an_override_may_hold_an_equals_sign(experiment):
    config = load_config(experiment, ["run.directory=a=b"])
    assert config.run.directory == f"{Path.cwd()}/a=b"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs", "expected key=value, such as training.epochs=20"),
        ("=3", "expected key=value, such as training.epochs=20"),
        ("training..epochs=3", "expected key=value, such as training.epochs=20"),
        ("training.epochs=[1", "the value is not valid YAML"),
        ("training.epochs.x=3", "training.epochs is a single value, not a section with keys"),
        ("training.epochs=many", "training.epochs: got 'many'; expected an integer"),
        ("training.epoch=3", "training.epoch: unknown key; did you mean 'epochs'?"),
        ("network.depth.x=3", "network.depth: got {'x': 3}; expected an integer"),
        ("network=3", "network: got 3; expected keys below it: depth"),
        ("network={dept: 3}", "network.dept: unknown key; did you mean 'depth'?"),
        ("data.train.input=", "data.train.input: missing: input images"),
    ],
)
def test_a_wrong_override_is_named_as_it_was_given(experiment, override, message):
    assert refusal(experiment, override).startswith(f"override {override}: {message}")


def test_mistakes_in_file_and_overrides_are_reported_together(experiment):
    experiment.write_text(TEXT + "network: {depth: none}")
    found = refusal(experiment, "training.epochs=0").split("\n")
    assert found == [
        f"{experiment}:6: network.depth: got 'none'; expected an integer",
        "override training.epochs=0: training.epochs: got 0; expected a number not less than 1",
    ]


def test_an_override_can_mend_the_file(experiment):
    experiment.write_text(TEXT + "network: {depth: none}")
    assert load_config(experiment, ["network.depth=3"]).network.depth == 3


def test_an_override_reaches_a_section_that_is_empty(experiment):
    experiment.write_text(TEXT + "network:")
    assert load_config(experiment, ["network.depth=3"]).network.depth == 3


def test_a_saved_config_loads_as_itself_from_anywhere(experiment, tmp_path):
    config = load_config(experiment, ["training.max_time=90m"])
    saved = tmp_path / "elsewhere" / "config.yaml"
    saved.write_text(dump_config(config))
    assert load_config(saved) == config


def test_a_former_name_of_a_key_is_refused_with_the_new_one(experiment):
    experiment.write_text(TEXT + "network: {ndim: 3}\nstream:\n  axis: 0\n  dt: 3\n")
    assert refusal(experiment) == (
        f"{experiment}:9: stream.dt: renamed to stream.frames_per_chunk; use the new name"
    )
    experiment.write_text(TEXT)
    assert refusal(experiment, "data.foreground.share=0.5") == (
        "override data.foreground.share=0.5: data.foreground.share: renamed to "
        "data.foreground.fraction; use the new name"
    )


def test_a_saved_config_with_former_names_is_read_with_the_new_ones(experiment, tmp_path):
    now = ["network.ndim=3", "stream.frames_per_chunk=3", "data.crop=32"]
    config = load_config(experiment, [*now, "data.foreground={fraction: 0.5, above: 1}"])
    text = dump_config(config)
    old = text.replace("frames_per_chunk: 3", "dt: 3").replace("fraction: 0.5", "share: 0.5")
    assert old.count("dt: 3") == old.count("share: 0.5") == 1
    (tmp_path / "config.yaml").write_text(old)
    assert load_saved_config(tmp_path / "config.yaml") == config
    assert changed_keys(load_saved_config(tmp_path / "config.yaml"), config) == []


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("network.depth=3", ["network.depth"]),
        ("training.learning_rate=1e-5", ["training.learning_rate"]),
        ("training.seed=1", ["training.seed"]),
        ("data.crop=64", ["data.crop"]),
        ("data.augment=true", ["data.augment"]),
        ("data.train.input=x", ["data.train.input"]),
        ("data.validation={fraction: 0.5}",
         ["data.validation.input", "data.validation.target", "data.validation.fraction"]),
        ("data.validation=", ["data.validation.input", "data.validation.target"]),
        ("training.epochs=50", []),
        ("training.max_time=1h", []),
        ("training.patience=3", []),
        ("training.device=cpu", []),
        ("training.checkpoint_every=5m", []),
        ("data.workers=4", []),
        ("data.cache=true", []),
        ("run={directory: x, previews: false, tensorboard: true}", []),
    ],
)  # fmt: skip
def test_which_keys_may_differ_when_a_run_goes_on(experiment, override, changed):
    before, after = load_config(experiment), load_config(experiment, [override])
    assert before != after
    assert changed_keys(before, after) == changed
    assert changed_keys(before, before) == []


MOVABLE = """\
task: regression
data:
  train:
    input: {path: ["a/*.tif", b.h5::/entry/data], axes: ZYX}
    target: "@list.txt"
    mask: /masks/*.png
  validation: {input: [val/1.tif, "~/val", /data/2.tif], target: ../clean}
training: {initial: first}
run: {directory: run}
"""


@pytest.mark.parametrize(("old", "new"), [("p", "q"), ("p", "deep/er/p"), ("p [1]", "p*")])
def test_a_project_may_be_moved_between_two_starts(tmp_path, old, new):
    configs = []
    for name in (old, new):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "c.yaml").write_text(MOVABLE)
        configs.append(load_config(tmp_path / name / "c.yaml"))
    before, after = configs
    assert changed_keys(before, after) == []
    elsewhere = load_config(
        tmp_path / new / "c.yaml",
        [f"data.train.input={{path: ['{tmp_path}/a/*.tif'], axes: ZYX}}", "run.directory=x"],
    )
    assert changed_keys(before, elsewhere) == [
        *("data.train.input.path", "data.train.target"),
        *("data.validation.input", "data.validation.target", "training.initial"),
    ]


def test_splits_may_be_moved_too(tmp_path):
    configs = []
    for name in ("p", "deep/er/p"):
        (tmp_path / name).mkdir(parents=True)
        path = tmp_path / name / "c.yaml"
        path.write_text(
            "task: regression\n"
            "data: {train: {splits: [{path: a.h5, axes: ZYX}, /data/b.h5]}}\n"
            "run: {directory: run}\n"
        )
        configs.append(load_config(path))
    assert changed_keys(*configs) == []
    other = load_config(path, [f"data.train.splits=[{{path: {path.parent}/a.h5}}, /data/b.h5]"])
    assert changed_keys(configs[0], other) == ["data.train.splits"]


def test_a_source_may_be_a_mapping_whose_path_counts_from_the_file_too(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "task: regression\n"
        "data:\n"
        "  train:\n"
        "    input: {path: scan.raw, axes: zyx, shape: [4, 5, 6], dtype: '>u2'}\n"
        "    target: '@list.txt'\n"
        "    mask: mask.h5::/entry/data\n"
    )
    data = load_config(path).data.train
    assert data.input.model_dump() == {
        "path": f"{tmp_path}/scan.raw",
        "axes": "ZYX",
        "shape": [4, 5, 6],
        "dtype": ">u2",
    }
    assert data.target == f"@{tmp_path}/list.txt"
    assert data.mask == f"{tmp_path}/mask.h5::/entry/data"
    assert parse_config(dump_config(load_config(path))) == load_config(path)


def test_what_a_command_calls_an_override_is_in_messages(experiment):
    with pytest.raises(ConfigError, match=r"^--set training\.epochs=0: training\.epochs: got 0"):
        load_config(experiment, ["training.epochs=0"], label="--set")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{path: a, axes: ZYYX}", "input.axes: got 'ZYYX'; expected a letter per axis, each once: "
         "X, Y, Z, C (channels), T (counts images), such as ZYX or YXC"),
        ("{path: a, axes: ZX}", "input.axes: got 'ZX'; expected a letter per axis"),
        ("{path: a, axis: ZYX}", "input.axis: unknown key; did you mean 'axes'? Allowed: path, "
         "axes, shape, dtype"),
        ("{axes: ZYX}", "input.path: missing: a glob, folder, file, or list of these"),
        ("{path: a, shape: [3, 0], dtype: uint8}", "input.shape[1]: got 0; expected a number not "
         "less than 1"),
        ("{path: a, shape: [3, 4]}", "input: a raw file needs both shape and dtype, any other file "
         "neither"),
        ("{path: a, shape: [3, 4], dtype: uint8, axes: ZYX}", "input: axes ZYX names 3 axes, "
         "shape has 2"),
        ("{path: a, shape: [3, 4], dtype: rgb}", "input.dtype: got 'rgb'; expected a dtype "
         "such as uint16, float32, or >u2 (big-endian)"),
        ("5", "input: got 5; expected a path, a glob pattern, or a list of these"),
    ],
)  # fmt: skip
def test_a_source_that_is_wrong_is_named_by_its_key(source, message):
    text = f"task: regression\ndata:\n  train:\n    input: {source}\n    target: b\n"
    with pytest.raises(ConfigError) as error:
        parse_config(text, "a.yaml")
    assert error.value.message.startswith("a.yaml:4: data.train.")
    assert message in error.value.message
