"""What tests of several folders share: the command line in this process, and trained networks."""

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from msdtool.cli import main
from msdtool.cli.signals import EXIT_CODES
from msdtool.config import load_config
from msdtool.ops.cuda import launcher
from msdtool.train.prepare import prepare_run

from . import shim as kernel_shim
from .helpers import LABELS, write_experiment, write_labelled_pairs, write_noisy_pairs

# Programs that tests start would compile the whole package, for 0.3 s, each time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Tables would be as wide as the terminal that the tests were started on.
os.environ.pop("COLUMNS", None)

TESTS = Path(__file__).parent
# They compile CUDA and C++, start many processes, or train to the end; versions matter little.
# They come first: a long file that comes last keeps one processor busy alone.
SLOW = (
    "config/test_slurm.py",
    "docs/",
    "faults/test_kills.py",
    "faults/test_mutations.py",
    "kernels/",
    "ops/cuda/",
    "ops/semifield/test_gpu.py",
    "shim/",
    "test_house.py",
    "train/test_distributed.py",
    "train/test_distributed_runs.py",
    "train/test_distributed_steps.py",
    "train/test_overfit.py",
    "train/test_processes.py",
    "train/test_resume.py",
)
assert all((TESTS / name).exists() for name in SLOW)


class Result(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def keep_signal_handlers() -> Iterator[None]:
    """Commands replace the handlers of SIGINT and others; put them back."""
    numbers = [number for number in signal.Signals if number.name in EXIT_CODES]
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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are processors: tests also wait, for programs and for timeouts."""
    return (os.cpu_count() or 1) + 1


def pytest_configure(config: pytest.Config) -> None:
    """Share the processors among pytest-xdist's workers and the programs that their tests start."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # it would put files with many tests first
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        threads = max(torch.get_num_threads() // workers, 1)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
        torch.set_num_threads(threads)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow tests and put them first; skip those that need a GPU where there is none."""
    items.sort(key=lambda item: not _is_slow(item))
    for item in items:
        if _is_slow(item):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def _is_slow(item: pytest.Item) -> bool:
    return item.path.relative_to(TESTS).as_posix().startswith(SLOW)


@pytest.fixture
def shim(monkeypatch, request) -> kernel_shim.ShimLauncher:
    """CUDA kernels run on the CPU, for tensors there; tests on a GPU need no C++ compiler."""
    if kernel_shim.MISSING and not request.node.get_closest_marker("gpu"):
        pytest.skip(kernel_shim.MISSING)
    shim_launcher = kernel_shim.ShimLauncher()
    monkeypatch.setitem(launcher.LAUNCHERS, "cpu", shim_launcher)
    return shim_launcher


def train(config: Path) -> Path:
    """Train without a terminal; return the run directory."""
    run = prepare_run(load_config(config))
    for _ in run.events():
        pass
    return run.directory.path


@pytest.fixture(scope="session")
def regression_run(tmp_path_factory) -> Path:
    """A run directory of a network that denoises a little, beside its data."""
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
    """A run directory of a network that segments three labels, beside its data."""
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
