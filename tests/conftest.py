"""What tests of several folders share: the command line in this process, and trained networks."""

import io
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from msdtool.cli import main
from msdtool.config import load_config
from msdtool.ops import kernels
from msdtool.train.run import TrainingRun

from . import shim as kernel_shim
from .helpers import LABELS, write_experiment, write_labelled_pairs, write_noisy_pairs


class Result(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def keep_signal_handlers() -> Iterator[None]:
    """Commands take over SIGINT and its kin; the tests want them back."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    handlers = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def cli(monkeypatch, capsys, keep_signal_handlers) -> Callable[..., Result]:
    """The program, run in this process."""

    def run(*arguments: object, stdin: str = "") -> Result:
        monkeypatch.setattr(sys, "argv", ["msdtool", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as exit:
            main()
        return Result(int(exit.value.code or 0), *capsys.readouterr())

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need a GPU say so where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture
def shim(monkeypatch, request) -> kernel_shim.ShimLauncher:
    """CUDA kernels run on the CPU, for tensors there; on a GPU, nobody needs the compiler."""
    if kernel_shim.MISSING and not request.node.get_closest_marker("gpu"):
        pytest.skip(kernel_shim.MISSING)
    launcher = kernel_shim.ShimLauncher()
    monkeypatch.setitem(kernels.LAUNCHERS, "cpu", launcher)
    return launcher


def train(config: Path) -> Path:
    """Train without a terminal; return the run directory."""
    run = TrainingRun(load_config(config))
    for _ in run.events():
        pass
    return run.directory.path


@pytest.fixture(scope="session")
def regression_run(tmp_path_factory) -> Path:
    """A run directory of a network that denoises a little; its data lies beside it."""
    folder = tmp_path_factory.mktemp("regression")
    sections = {
        "data": {
            "train": write_noisy_pairs(folder / "train", 3),
            "validation": write_noisy_pairs(folder / "validation", 3, seed=1),
        },
        "training": {"epochs": 2, "learning_rate": 0.01},
        "run": {"directory": "run", "previews": True},
    }
    return train(write_experiment(folder / "config.yaml", sections))


@pytest.fixture(scope="session")
def segmentation_run(tmp_path_factory) -> Path:
    """A run directory of a network that tells three labels apart; its data lies beside it."""
    folder = tmp_path_factory.mktemp("segmentation")
    sections = {
        "task": "segmentation",
        "data": {
            "train": write_labelled_pairs(folder / "train", 3),
            "validation": write_labelled_pairs(folder / "validation", 2, seed=1),
            "labels": LABELS,
        },
        "training": {"epochs": 2, "learning_rate": 0.01},
        "run": {"directory": "run", "previews": True},
    }
    return train(write_experiment(folder / "config.yaml", sections))
