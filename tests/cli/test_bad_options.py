"""Options that contradict each other, and command lines that are none."""

import pytest

from .conftest import contents

# Options that contradict each other or the model: (arguments after the command, message).
PREDICT = {
    "both": (["--overwrite", "--skip-existing"], "--overwrite and --skip-existing: choose one"),
    "part too large": (["--part", 3, "--num-parts", 3], "--part 3: expected a number from 0 to 2"),
    "part without parts": (["--part", 1], "--part 1: needs --num-parts, the number of parts"),
    "probabilities": (["--probabilities"], "--probabilities: the model is for regression and has "
                      "none"),
    "device": (["--device", "gpu"], "device: got 'gpu'; allowed: auto, cpu, cuda"),
    "no GPU": (["--device", "cuda"], "device: got 'cuda', but torch finds no GPU on this machine; "
               "use auto or cpu, or install the torch build for your GPU"),
}  # fmt: skip


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


@pytest.mark.parametrize("name", PREDICT)
def test_options_of_predict(refused, regression_run, images, tmp_path, no_gpu, name):
    options, message = PREDICT[name]
    arguments = ["predict", regression_run, images, "-o", tmp_path / "out", *options]
    assert refused(*arguments, code=2) == message


def test_options_of_train(refused, config, no_gpu):
    found = refused("train", config, "--resume", "--overwrite", code=2)
    assert found == "--resume and --overwrite: choose one"
    found = refused("train", config, "--set", "training.device=cuda", code=2)
    assert found.startswith("device: got 'cuda', but torch finds no GPU on this machine; use auto")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Usage: "),
        (["trane"], "No such command 'trane'. Did you mean 'train'?"),
        (["train"], "Missing argument 'CONFIG'"),
        (["train", "a.yaml", "--epochs", "3"], "No such option: --epochs"),
        (["predict", "run"], "Missing argument 'INPUT'"),
        (["predict", "run", "a.tif"], "Missing option '--output' / '-o'"),
        (["predict", "run", "a.tif", "-o", "b", "--part", "x"], "Invalid value for '--part'"),
        (["predict", "run", "a.tif", "-o", "b", "--part", "-1"], "Invalid value for '--part'"),
        (
            ["predict", "run", "a.tif", "-o", "b", "--num-parts", "0"],
            "Invalid value for '--num-parts'",
        ),
        (["evaluate", "run", "--input", "a"], "Missing option '--target'"),
        (
            ["init", "denoize"],
            "'denoize' is not one of 'denoise', 'segment', 'finetune', 'slab', 'volume'",
        ),
    ],
)
def test_lines_that_are_not_a_command(cli, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = cli(*arguments)
    assert result.code == 2
    assert message in result.err + result.out
    assert "Traceback" not in result.err
    assert contents(tmp_path) == {}


def test_a_home_folder_that_is_not_known_is_told_by_every_command(
    refused, config, regression_run, images
):
    place = "~nobody-here/x"
    message = f"{place}: the home folder ~nobody-here is not known here; write the folder's path"
    for code, *arguments in (
        (3, "predict", regression_run, place, "-o", "out"),
        (3, "predict", place, images, "-o", "out"),
        (2, "predict", regression_run, images, "-o", place),
        (2, "train", config, "--run-dir", place),
        (3, "train", config, "--set", f"data.train.input={place}"),
        (2, "train", place),
        (2, "report", place),
        (3, "info", place),
    ):
        assert message in refused(*arguments, code=code)
