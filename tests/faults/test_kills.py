"""Commands that are killed at random instants, alone or while two write the same result.

`MSDTOOL_KILLS` sets how many processes of each kind are killed.
"""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from msdtool.data.sinks import SUFFIXES
from msdtool.runs.checkpoint import load_checkpoint
from tests.cli.conftest import contents
from tests.helpers import write_experiment
from tests.test_foreign import random_network, scaling, write_msd_pytorch

pytest.importorskip("zarr", "3")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked")

KILLS = int(os.environ.get("MSDTOOL_KILLS", "1"))
UUID = re.compile(rb"urn:uuid:[0-9a-f-]{36}")
"""OME-TIFF has a new one in each file."""
OF_THE_MACHINE = ("seconds", "data_seconds", "memory_bytes")
"""What two runs of the same training do not share."""


class Case(NamedTuple):
    """What is killed.

    Attributes:
        commands: one after the other; OUT stands for where the results go, PLACE for what they use.
        again: further arguments of those that are killed.
        last: further arguments of those that end the work.
        strips: images are computed in strips.
        rival: another process writes the same result.
        refuses: what is complete already is refused by the last ones.
    """

    commands: list[str]
    again: str = ""
    last: str = ""
    strips: bool = False
    rival: bool = False
    refuses: bool = False


SOURCE = "SOURCE"


def predicted(*options: str, to: str = "OUT", **others: bool) -> Case:
    command = " ".join(["predict PLACE/run", SOURCE, "-o", to, "--quiet", *options])
    again = "--overwrite" if others.get("rival") else ""
    return Case([command], again, "--skip-existing", **others)


PARTS = ("--num-parts 2 --part 0", "--num-parts 2 --part 1")
EVALUATE = "evaluate OUT-run --input PLACE/noisy --target PLACE/clean -o OUT --quiet"
CASES = {
    **{f"{format} alone": predicted(f"--format {format}") for format in SUFFIXES},
    **{
        f"{format} in strips": predicted(f"--format {format} --scratch PLACE/scratch", strips=True)
        for format in ("tif", "files")
    },
    **{
        f"{format} compressed": predicted(f"--format {format} --compress deflate")
        for format in ("tif", "h5", "files")
    },
    **{
        f"{format} with a rival": predicted(f"--format {format}", rival=True)
        for format in ("npy", "h5", "zarr")
    },
    "OME-TIFF": predicted(to="OUT/v.ome.tif"),
    "OME-Zarr": predicted(to="OUT/v.ome.zarr"),
    "OME-Zarr with a rival": predicted(to="OUT/v.ome.zarr", rival=True),
    "parts of a prediction": Case(
        [f"predict PLACE/run PLACE/noisy -o OUT --quiet {part}" for part in PARTS],
        again="--skip-existing",
        last="--skip-existing",
    ),
    "watch": Case(["predict PLACE/run PLACE/noisy -o OUT --quiet --watch --idle 0.05s"]),
    "probabilities": Case(
        ["predict PLACE/labels-run SOURCE -o OUT --probabilities --quiet"],
        again="--skip-existing",
        last="--skip-existing",
    ),
    "train": Case(
        ["train PLACE/config.yaml --run-dir OUT --quiet"], again="--resume", last="--resume"
    ),
    "train anew": Case(
        ["train PLACE/config.yaml --run-dir OUT --quiet --set run.previews=false"],
        again="--overwrite",
        last="--overwrite",
    ),
    "evaluate": Case(
        [
            "evaluate PLACE/run --input PLACE/noisy --target PLACE/clean --quiet "
            "--figure OUT/figure.png"
        ]
    ),
    "parts of an evaluation": Case(
        [
            f"evaluate PLACE/run --input PLACE/noisy --target PLACE/clean -o OUT --quiet {part}"
            for part in PARTS
        ]
    ),
    "import": Case(
        ["import PLACE/weights.torch -o OUT/model.pt --task regression --quiet"], refuses=True
    ),
    "init": Case(["init denoise -o OUT/denoise.yaml"], refuses=True),
    "report": Case(["report PLACE/run --figure OUT/curves.png"]),
    "demo": Case(["demo shapes -o OUT --quiet"]),
    "bench": Case(
        ["bench --size 16 --depth 1 --figure OUT/costs.png --profile OUT/trace.json --quiet"]
    ),
}


@pytest.fixture(scope="module")
def program():
    """Runs what is killed, one case after the other."""
    command = [sys.executable, "-m", "tests.faults.children"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    # Threads would not survive the fork.
    with subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def place(tmp_path, regression_run, segmentation_run) -> Path:
    """A folder with all that the commands use."""
    shutil.copytree(regression_run, tmp_path / "run")
    shutil.copytree(segmentation_run, tmp_path / "labels-run")
    data = regression_run.parent / "train"
    for name in ("noisy", "clean"):
        shutil.copytree(data / name, tmp_path / name)
    pairs = {"input": str(tmp_path / "noisy"), "target": str(tmp_path / "clean")}
    sections = {
        "data": {"train": pairs, "validation": pairs},
        "training": {"epochs": 3, "learning_rate": 0.01},
        "run": {"previews": True},
    }
    write_experiment(tmp_path / "config.yaml", sections)
    write_msd_pytorch(
        tmp_path / "weights.torch", random_network(1, 1, 4, 1), *[scaling([[1.0]], [0.0])] * 2
    )
    (tmp_path / "scratch").mkdir()
    return tmp_path


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_killed_leaves_the_right_result_in_the_end(program, place, case):
    shape = (2, 700, 500) if case.strips else (40, 64, 64)
    np.save(place / "v.npy", np.random.default_rng(0).random(shape, np.float32))
    before = contents(place / "run")

    def words(text: str) -> list[str]:
        text = text.replace("SOURCE", "PLACE/v.npy")
        return [word.replace("PLACE", str(place)) for word in text.split()]

    options = {"seed": 1, "kills": KILLS, "place": str(place)}
    options |= {"commands": [words(command) for command in case.commands]}
    options |= {"again": words(case.again), "last": words(case.last)}
    options |= {"strips": case.strips, "rival": case.rival}
    program.stdin.write(json.dumps(options) + "\n")
    program.stdin.flush()
    first, *codes, last = json.loads(program.stdout.readline())
    log = (place / "log").read_text()
    assert first == 0, log
    assert last in ({0, 2} if case.refuses else {0}), log
    # 1: another process writes the result; 2: it exists already.
    assert set(codes) <= {0, 1, 2, -signal.SIGKILL}, log
    assert "Traceback" not in log
    assert "unexpected" not in log
    compare(place / "out", place / "undisturbed")
    assert list((place / "scratch").iterdir()) == []
    changed = contents(place / "run")
    for run in (before, changed):
        run.pop("report/evaluation.json", None)  # what evaluating it is for
    assert changed == before


def compare(out: Path, undisturbed: Path) -> None:
    """Whether two folders hold the same files, of the same content where it is no measurement."""
    found, expected = contents(out), contents(undisturbed)
    assert found.keys() == expected.keys()
    for name, content in found.items():
        other = expected[name]
        match Path(name).name:
            case "best.pt" | "last.pt" | "model.pt":
                compare_checkpoints(out / name, undisturbed / name)
            case "metrics.jsonl":
                assert list(map(without_times, content.splitlines())) == list(
                    map(without_times, other.splitlines())
                )
            case "log.txt":
                compare_logs(content.decode(), other.decode())
            case "curves.png" | "costs.png":  # of memory and time
                with Image.open(io.BytesIO(content)) as image:
                    image.load()
            case "trace.json":
                json.loads(content)
            case "environment.json" | "config.yaml":
                assert content.replace(b"/out", b"/undisturbed")[:20] == other[:20]
            case file if file.endswith(".h5"):  # whose parts may lie in any order
                with h5py.File(out / name) as a, h5py.File(undisturbed / name) as b:
                    assert np.array_equal(a["data"], b["data"])
            case _:
                assert UUID.sub(b"", content) == UUID.sub(b"", other), name


def without_times(line: bytes) -> dict[str, object]:
    return {key: value for key, value in json.loads(line).items() if key not in OF_THE_MACHINE}


def compare_logs(found: str, expected: str) -> None:
    """A log tells all that happened, some of it twice."""
    lines = found.splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  \w", line) for line in lines)
    kinds = [
        [re.sub(r"(seconds|bytes) [^,]*", "", line)[21:] for line in text.splitlines()]
        for text in (found, expected)
    ]
    assert set(kinds[0]) >= set(kinds[1])
    assert kinds[0][-1] == kinds[1][-1]


def compare_checkpoints(path: Path, other: Path) -> None:
    a, b = (load_checkpoint(file).to_dict() for file in (path, other))
    compare_states(a, b)


def compare_states(a: object, b: object) -> None:
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            if key not in (*OF_THE_MACHINE, "directory", "metrics_bytes"):
                compare_states(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for items in zip(a, b, strict=True):
            compare_states(*items)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert repr(a) == repr(b)  # also of NaN
