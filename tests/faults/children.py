"""Commands in processes of their own, killed at any instant; a program for tests.

Forked children need no second each to import torch, so that many can be killed in a few seconds.
"""

import gc
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from traceback import print_exc

import h5py  # noqa: F401
import imageio.v3  # noqa: F401
import PIL.Image
import typer
import zarr
from matplotlib.figure import Figure

import msdtool.bench.breakdown
import msdtool.demo.shapes
import msdtool.evaluate
import msdtool.foreign
import msdtool.report.costs
import msdtool.report.curves
import msdtool.report.summary
import msdtool.train.prepare  # noqa: F401
from msdtool.bench import correctness, suite
from msdtool.cli import app, main
from msdtool.data.sinks import zarr as zarr_sink
from msdtool.demo import shapes
from msdtool.ops.out_of_core import resuming
from msdtool.ops.out_of_core.module import RESERVED_BYTES
from msdtool.predict import predictor, results, watching


def start(commands: list[list[str]], log: Path, *, strips: bool) -> int:
    """Run commands one after the other in a child that saves its work all the time.

    Its exit code is the largest one of theirs.
    """
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        output = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        sys.stdin = Path(os.devnull).open()  # noqa: SIM115 - until the process ends
        os.dup2(output, 1)
        os.dup2(output, 2)
        _hasten(strips=strips)
        code = max(map(_run, commands))
    except BaseException:
        print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _run(command: list[str]) -> int:
    sys.argv = ["msdtool", *command]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _hasten(*, strips: bool) -> None:
    """Have a child spend its time on what is written, and not on what else it would compute."""
    results.SECONDS_BETWEEN_SAVES = resuming.SECONDS_BETWEEN_SAVES = 0.0
    watching.SETTLED_SECONDS, watching.SECONDS_BETWEEN_LOOKS = 0.0, 0.01
    zarr_sink.SMALLEST = 16
    shapes.PARTS = {"train": 2, "test": 2}
    shapes.SIZE = 32
    shapes.NUM_SHAPES = 2
    correctness.check_engine = lambda _: {"float32": 0.0}
    suite.run_suite = lambda cases, *_, **__: [[suite.Row(case, "msdtool")] for case in cases]
    if strips:
        predictor.Predictor.fits = lambda *_: False
        predictor.usable_bytes = lambda *_: RESERVED_BYTES + 2_000_000


def end(child: int) -> int:
    """Wait for a child; return its exit code, or the negative number of the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(
    seed: int,
    kills: int,
    place: str,
    commands: list[list[str]],
    again: list[str],
    last: list[str],
    *,
    strips: bool,
    rival: bool,
) -> list[int]:
    """Run commands undisturbed, then with kills and to their end; return all exit codes.

    Args:
        seed: of the instants.
        kills: so many children are killed.
        place: the results are in "undisturbed" and "out" there, and "log" holds the messages.
        commands: the arguments of each; OUT in them is where its results go.
        again: further arguments of those that are killed.
        last: further arguments of those that end the work.
        strips: compute all images in strips.
        rival: start two children at once, which replace the result, and kill one of them.
    """
    random.seed(seed)

    def begin(name: str, more: list[str]) -> int:
        given = [
            [part.replace("OUT", f"{place}/{name}") for part in [*command, *more]]
            for command in commands
        ]
        return start(given, Path(place, "log"), strips=strips)

    began = time.monotonic()
    codes = [end(begin("undisturbed", []))]
    seconds = time.monotonic() - began
    for _ in range(kills):
        children = [begin("out", again)]
        if rival:
            time.sleep(random.uniform(0, seconds / 2))
            children.append(begin("out", again))
        time.sleep(random.uniform(0, seconds))
        os.kill(random.choice(children), signal.SIGKILL)
        codes += map(end, children)
    codes.append(end(begin("out", last)))
    return codes


if __name__ == "__main__":
    # Whatever was imported and made before the fork need not be in each child.
    PIL.Image.init()
    assert zarr.__version__
    figure = Figure(layout="constrained")
    figure.subplots().set_title("fonts")
    figure.savefig(os.devnull, format="png")
    app.app = typer.main.get_command(app.app)
    gc.freeze()
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)
