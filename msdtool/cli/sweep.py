"""msdtool sweep"""

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from msdtool.cli import console
from msdtool.cli.options import ConfigFile, Json, LogEvery, NumParts, PartIndex, Quiet
from msdtool.cli.parts import choose_part
from msdtool.cli.signals import StopRequest
from msdtool.cli.training import join_processes, train_run
from msdtool.errors import Error, FailedElsewhere, Stopped

log = logging.getLogger(__name__)


def command(
    config: ConfigFile,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="Folder for the run directories."),
    ],
    set_: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="KEY=VALUE,VALUE,...",
            help="The values of a key, such as network.depth=30,100. Repeatable.",
        ),
    ],
    part: PartIndex = None,
    num_parts: NumParts = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the run directories and stop.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    log_every: LogEvery = None,
) -> None:
    """Train an experiment with every combination of some settings, each in its own run directory.

    Finished runs are kept and interrupted ones resumed, so the same command continues a sweep; a
    run that fails does not stop the others. In a SLURM job array each task trains its share.

    Example: msdtool sweep denoise.yaml --set network.depth=30,100 --set training.seed=1,2,3 -o runs
    """
    from msdtool.config.sweep import plan_sweep

    mine = choose_part(part, num_parts, os.environ)
    processes = join_processes()
    console.listen(quiet=quiet or not processes.is_main)
    trials = processes.together(lambda: plan_sweep(config, set_, output, "--set"))
    trials = trials[mine.index :: mine.count]
    if dry_run:
        if processes.is_main:
            _print([trial.config.run.directory for trial in trials], json)
        return
    if mine.count > 1:
        log.info(f"{mine}: {len(trials)} runs")
    stop, done, num_failed = StopRequest(), [], 0
    for number, trial in enumerate(trials, start=1):
        log.info(f"run {number} of {len(trials)}: {trial.name}")
        try:
            run = train_run(trial.config, True, False, stop, processes, log_every)
            done.append(str(run.directory.best))
        except Stopped as stopped:
            processes.close()
            message = f"run {number} of {len(trials)}, {trial.name}: {stopped.message}"
            raise Stopped(message, stop.exit_code) from None
        except FailedElsewhere:
            raise
        except Error as error:
            log.warning(f"{trial.name} failed: {error.message}")
            num_failed += 1
    processes.close()
    if processes.is_main:
        _print(done, json)
    if num_failed:
        raise Error(f"{num_failed} of {len(trials)} runs failed; the warnings above say why")


def _print(paths: list[str], json: bool) -> None:
    if json:
        console.result_json(paths)
    elif paths:
        console.result("\n".join(paths))
