"""What an earlier msdtool wrote is opened, used and resumed; see `tests.golden.runs`.

The last bits of a float depend on processor, torch and compiler. Where these are those of the
recording, every bit is compared; elsewhere, results up to rounding.
"""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from msdtool.runs.checkpoint import load_checkpoint
from msdtool.runs.rundir import RunDirectory

from .golden import runs

FOLDER = Path(runs.__file__).parent
NAMES = sorted(path.parent.name for path in FOLDER.glob("*/experiment.yaml"))
INPUTS = {
    "series": ["volume/noisy_1.tif"],
    "slab": ["volume/noisy_0.tif"],
    "splits": [f"volume/noisy_{number}.tif" for number in range(3)],
}
RECORDED_ON = "892975da8b5fa4b2"


def machine():
    """A hash of what the last bits of a float depend on."""
    compiler, cpu = shutil.which("c++"), Path("/proc/cpuinfo")
    facts = [torch.__version__, torch.backends.cpu.get_cpu_capability()]
    if compiler is not None:
        facts.append(subprocess.check_output([compiler, "--version"], text=True))
    if cpu.exists():
        lines = cpu.read_text().splitlines()
        facts += sorted({line for line in lines if line.startswith(("model name", "flags"))})
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


IS_EXACT = machine() == RECORDED_ON
# Its loss has an SSIM term, which counted the border of the image when it was recorded.
REDEFINED = {"slab"}

METRICS = ("mse", "mae", "psnr", "ssim", "data_range")


@pytest.fixture(autouse=True)
def one_thread():
    """Torch's convolutions split their sums by threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def folder(name, tmp_path):
    """An experiment, its images and its run, which was stopped halfway."""
    runs.write_images(tmp_path / "images")
    shutil.copy(FOLDER / name / "experiment.yaml", tmp_path)
    shutil.copytree(FOLDER / name / "run", tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("/golden", str(tmp_path)))
    return tmp_path


def recorded(name, kind):
    arrays = np.load(FOLDER / name / "expected.npz")
    return {key.partition("/")[2]: arrays[key] for key in arrays if key.startswith(f"{kind}/")}


def check_array(found, expected, tolerance):
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    if IS_EXACT:
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=tolerance)


def check_row(found, expected, is_exact):
    for key, value in expected.items():  # newer rows may hold more
        if isinstance(value, dict):
            check_row(found[key], value, is_exact)
        elif isinstance(value, float) and not (is_exact and key.endswith("loss")):
            # what is measured beside the losses was computed in float32
            assert found[key] == pytest.approx(value, rel=0.01), key
        else:
            assert found[key] == value, key


def test_an_earlier_run_predicts_the_same_bits(cli, name, folder):
    inputs = [folder / "images" / path for path in INPUTS.get(name, ["validation/noisy"])]
    result = cli("predict", folder / "run", *inputs, "-o", folder / "out", "--quiet")
    assert result.code == 0, result.err
    expected = recorded(name, "prediction")
    assert {path.stem for path in (folder / "out").iterdir()} == expected.keys()
    for key, image in expected.items():
        check_array(tifffile.imread(folder / "out" / f"{key}.tif"), image, 1e-4)


def test_an_earlier_run_resumes_and_ends_like_one_left_alone(cli, name, folder):
    result = cli("train", folder / "experiment.yaml", "--resume", "--quiet")
    assert result.code == 0, result.err
    run = RunDirectory(folder / "run")
    found, expected = run.read_rows(), json.loads((FOLDER / name / "rows.json").read_text())
    assert len(found) == len(expected)
    is_exact = IS_EXACT and name not in REDEFINED
    for row, expected_row in zip(found, expected, strict=True):
        # Against held-out noise, metrics are no longer measured.
        left_out = METRICS if name == "splits" else ()
        kept = {key: value for key, value in expected_row.items() if key not in left_out}
        check_row(row, kept, is_exact)
    state, weights = load_checkpoint(run.last).model.state, recorded(name, "state")
    assert state.keys() == weights.keys()
    for key, tensor in weights.items():
        assert state[key].shape == tensor.shape
        if is_exact:  # Adam blows rounding up where a gradient is zero, as of a bias before a norm
            np.testing.assert_array_equal(state[key].numpy(), tensor)


def test_info_shows_an_earlier_run_as_it_was_recorded(cli, name):
    facts = json.loads(cli("info", FOLDER / name / "run", "--json").out)
    file = FOLDER / name / "run" / "checkpoints" / "best.pt"
    content = torch.load(file, weights_only=True)
    for key in ("task", "architecture", "normalisation", "collapse_channels", "ignore"):
        assert facts[key] == content["model"][key]
    assert content["progress"].items() <= facts["progress"].items()  # newer ones hold more
