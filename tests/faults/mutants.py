"""Commands on damaged files, each in a process of its own; a program for tests.

Forked children need no second each to import torch, and what one leaves behind, or how it ends,
does not touch the others.
"""

import gc
import json
import os
import random
import resource
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path
from traceback import print_exc
from typing import NamedTuple

import h5py
import imageio.v3  # noqa: F401
import numpy as np
import PIL.Image
import tifffile
import typer
import zarr

import msdtool.check
import msdtool.predict
import msdtool.train.prepare  # noqa: F401
from msdtool.cli import app, main
from tests.faults.mutations import mutate
from tests.faults.specimens import KINDS, source
from tests.helpers import write_experiment

GIGABYTE = 2**30
MEMORY = 2 * GIGABYTE
"""What a command on a small file may use."""
PROCESSOR_SECONDS = 10
SECONDS = 120
"""Long enough for any machine; what waits for ever is ended then."""
ALLOWED = {0, 2, 3}


class End(NamedTuple):
    """How a command ended.

    Attributes:
        code: its exit code, or the negative number of a signal.
        memory: its peak, in bytes.
        text: what it printed.
    """

    code: int
    memory: int
    text: str


def run(arguments: list[object], log: Path) -> End:
    """Run a command in a child with limits."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            _limit()
            output = os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
            sys.stdin = Path(os.devnull).open()  # noqa: SIM115 - until the process ends
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.argv = ["msdtool", *map(str, arguments)]
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status, usage = os.wait4(child, 0)
    text = log.read_text("utf-8", "replace")
    return End(os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024, text)


def _limit() -> None:
    """End a child that computes or waits too long, and keep one from taking all memory."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 3 * MEMORY, used + 3 * MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_SECONDS, PROCESSOR_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS)


def commands(specimen: Path, place: Path, model: str) -> list[list[object]]:
    """The commands that read a specimen; one of them is run."""
    if specimen.suffix == ".yaml":
        return [["check", specimen], ["train", specimen, "--dry-run"]]
    images = source(specimen)
    if specimen.suffix == ".raw":
        images = {"path": str(specimen), "shape": [3, 12, 16], "dtype": "uint16"}
    pairs = {"data": {"train": {"input": images, "target": images}}}
    labels = {"task": "segmentation", "data": {**pairs["data"], "labels": 256}}
    configs = [
        write_experiment(place / f"{name}.yaml", sections)
        for name, sections in (("pairs", pairs), ("labels", labels))
    ]
    predict = ["predict", model, source(specimen), "-o", place / "out", "-q"]
    checks = [["check", config] for config in configs]
    return [predict, ["info", source(specimen)], predict, *checks]


def problems(end: End, place: Path) -> list[str]:
    """What is wrong with how a command ended."""
    found = []
    if end.code not in ALLOWED:
        found.append(f"exit code {end.code}")
    if end.memory > MEMORY:
        found.append(f"{end.memory / GIGABYTE:.1f} GB")
    found += [word for word in ("Traceback", "error: unexpected", "Warning:") if word in end.text]
    errors = end.text.count("error: ") + end.text.count("problem: ")
    if end.code and not errors:
        found.append("no message")
    if end.code == 0 and f"\n{end.text}".count("\nerror: "):
        found.append("an error, but exit code 0")
    if max(map(len, end.text.splitlines()), default=0) > 20_000:
        found.append("a line of over 20,000 characters")
    results = list((place / "out").iterdir()) if (place / "out").exists() else []
    for path in results:
        if path.name.startswith("."):
            continue  # the start of a result, which a later call resumes
        if end.code and path.stem not in ("a", "b"):  # of a list, each result is complete
            found.append(f"a result {path.name} in spite of the error")
        else:
            found += _unreadable(path)
    return found


def _unreadable(path: Path) -> list[str]:
    """Read a result to its end by the library of its format."""
    try:
        match path.suffix:
            case ".tif" | ".tiff":
                tifffile.imread(path)
            case ".npy":
                np.load(path)
            case ".h5":
                with h5py.File(path) as file:
                    file.visititems(lambda _, item: item[()] if hasattr(item, "shape") else None)
    except Exception as error:
        return [f"the result {path.name} cannot be read: {error}"]
    return []


def damage(specimen: Path, seed: int) -> str:
    """Damage a file, or one of the files of a folder."""
    rng = random.Random(seed)
    path = specimen
    if path.is_dir():
        path = rng.choice(sorted(file for file in path.rglob("*") if file.is_file()))
    done, content = mutate(path.name, path.read_bytes(), seed)
    path.write_bytes(content)
    return done


def main_program(place: Path, model: str, kind: str, seeds: range) -> dict[str, object]:
    """Run a command on each mutant of a kind, and on the sound file first.

    Returns:
        The number of mutants by exit code, and the findings.
    """
    sound = place / "sound"
    sound.mkdir(parents=True)
    KINDS[kind](sound / kind)
    codes: Counter[str] = Counter()
    findings = []
    for seed in (None, *seeds):
        folder = place / str(seed)
        shutil.copytree(sound, folder)
        specimen = folder / kind
        done = "sound" if seed is None else damage(specimen, seed)
        options = commands(specimen, folder, model)
        command = options[(seed or 0) % len(options)]
        end = run(command, folder / "log")
        found = problems(end, folder)
        codes[str(end.code) if seed is not None else f"sound {end.code}"] += 1
        if found:
            findings.append(f"{kind} {seed} ({done}): {', '.join(found)}: {command}\n{end.text}")
        if not found or "KEEP" not in os.environ:
            shutil.rmtree(folder)
    return {"codes": codes, "findings": findings}


if __name__ == "__main__":
    # Whatever was imported and made before the fork need not be in each child.
    PIL.Image.init()
    assert zarr.__version__
    app.app = typer.main.get_command(app.app)
    gc.freeze()
    for line in sys.stdin:
        options = json.loads(line)
        options |= {"place": Path(options["place"]), "seeds": range(*options["seeds"])}
        print(json.dumps(main_program(**options)), flush=True)
