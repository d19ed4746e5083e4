"""Predictions in processes of their own, killed at any instant; a program for tests.

Forked children need no second each to import torch, so that many can be killed in a few seconds.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from msdtool.cli import main
from msdtool.ops.out_of_core import resuming
from msdtool.ops.out_of_core.module import RESERVED_BYTES
from msdtool.predict import predictor, results


def start(arguments: list[str]) -> int:
    """Run a command in a child that saves its work all the time."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        sys.argv = ["msdtool", *arguments]
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stderr.flush()
        os._exit(code)


def end(child: int) -> int:
    """Wait for a child; return its exit code, or the negative number of the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(seed: int, kills: int, place: Path, command: list[str], *, strips: bool, rival: bool):
    """Run a command undisturbed, then with kills and to its end; return all exit codes.

    Args:
        seed: of the instants.
        kills: so many children are killed.
        place: the results are in "undisturbed" and "out" there.
        command: its arguments but those that name the place.
        strips: compute all images in strips.
        rival: start two children at once, which replace the result, and kill one of them.
    """
    random.seed(seed)
    results.SECONDS_BETWEEN_SAVES = resuming.SECONDS_BETWEEN_SAVES = 0.0
    if strips:
        predictor.Predictor.fits = lambda *_: False
        predictor.usable_bytes = lambda *_: RESERVED_BYTES + 2_000_000
    began = time.monotonic()
    codes = [end(start([*command, "-o", f"{place}/undisturbed"]))]
    seconds = time.monotonic() - began
    command = [*command, "-o", f"{place}/out"]
    again = ["--overwrite"] if rival else []
    for _ in range(kills):
        children = [start([*command, *again])]
        if rival:
            time.sleep(random.uniform(0, seconds / 2))
            children.append(start([*command, *again]))
        time.sleep(random.uniform(0, seconds))
        os.kill(random.choice(children), signal.SIGKILL)
        codes += map(end, children)
    codes.append(end(start([*command, "--skip-existing"])))
    return codes


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    print(*run(**options | {"place": Path(options["place"])}))
