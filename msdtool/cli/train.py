"""msdtool train"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from msdtool.cli import console
from msdtool.cli.check import ConfigFile, Overrides
from msdtool.cli.console import Json, LogEvery, Quiet, number
from msdtool.cli.signals import StopRequest
from msdtool.errors import ConfigError, Stopped

if TYPE_CHECKING:
    from msdtool.config import ExperimentConfig
    from msdtool.train.events import EpochDone
    from msdtool.train.processes import Processes
    from msdtool.train.run import TrainingRun


def command(
    config: ConfigFile,
    set_: Overrides = None,
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", help="The run directory, instead of the config's.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run there; start it if there is none.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run that is there.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved config and stop.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    log_every: LogEvery = None,
) -> None:
    """Train a network; prints the best checkpoint's path.

    SIGTERM and SIGUSR1 save a checkpoint and exit with 75, Ctrl-C with 130: the same command with
    --resume goes on, bit for bit.

    On several GPUs: torchrun --nproc-per-node=4 -m msdtool train denoise.yaml --resume

    Example: msdtool train denoise.yaml --set training.epochs=20 --run-dir runs/first
    """
    from msdtool.config import dump_config, load_config

    if resume and overwrite:
        raise ConfigError("--resume and --overwrite: choose one")
    overrides = list(set_ or [])
    if run_dir is not None:
        # Quoted, as the text it is: a directory may be called 2024 or a#b.
        overrides.append(f"run.directory={dumps(str(run_dir), ensure_ascii=False)}")
    processes = _join()
    bars = partial(console.progress, quiet=quiet or not processes.is_main, log_every=log_every)
    experiment = processes.together(lambda: load_config(config, overrides))
    if dry_run:
        if processes.is_main:
            console.result(dump_config(experiment).rstrip())
        return
    stop = StopRequest()
    try:
        run = _train(experiment, resume, overwrite, stop, processes, bars)
        processes.close()
    except Stopped as stopped:
        processes.close()
        raise Stopped(stopped.message, stop.exit_code) from None
    if processes.is_main:
        _print_result(run, json)


def _join() -> "Processes":
    """Meet the other processes, if a launcher started several."""
    from msdtool.train.processes import ALONE, find_launch

    launch = find_launch(os.environ)
    if launch is None:
        return ALONE
    from msdtool.train.distributed import Distributed

    return Distributed(launch)


def _print_result(run: "TrainingRun", json: bool) -> None:
    best = run.directory.best
    if json:
        progress = run.learner.progress
        console.result_json(
            {
                "checkpoint": str(best),
                "finished": progress.finished,
                "epoch": progress.epoch,
                "step": progress.step,
                "best_epoch": progress.best_epoch,
                "best_loss": progress.best_loss,
                "seconds": progress.seconds,
                "metrics": run.record.metrics,
            }
        )
    else:
        console.result(str(best))


def _train(
    experiment: "ExperimentConfig",
    resume: bool,
    overwrite: bool,
    stop: StopRequest,
    processes: "Processes",
    bars: Callable[..., AbstractContextManager[console.Bar]],
) -> "TrainingRun":
    from msdtool.train.events import EpochDone, ImageValidated, StepDone
    from msdtool.train.run import TrainingRun
    from msdtool.train.summary import pairing_warnings, summarise

    with bars("reading", 0) as bar:
        run = TrainingRun(
            experiment,
            resume=resume,
            overwrite=overwrite,
            should_stop=stop,
            log=bar.say,
            tick=lambda done, total: bar.update(done, total=total),
            processes=processes,
        )
    progress = run.learner.progress
    with bars("train", run.total_steps, completed=progress.step) as bar:
        bar.say(console.table(summarise(run)))
        for warning in pairing_warnings(run):
            bar.say(f"warning: {warning}")
        if progress.finished:
            bar.say(f"nothing to do, the run is finished: {progress.finished}")
            return run
        for event in run.events():
            epoch = f"epoch {progress.epoch + 1}/{experiment.training.epochs}"
            if isinstance(event, StepDone):
                bar.update(progress.step, f"{epoch}, loss {event.loss:.4g}")
            elif isinstance(event, ImageValidated):
                bar.update(progress.step, f"{epoch}, validating image {event.index + 1}")
            elif isinstance(event, EpochDone):
                bar.say(_epoch_line(experiment, event))
        bar.say(f"finished: {progress.finished}; best epoch {progress.best_epoch}")
    return run


def _epoch_line(experiment: "ExperimentConfig", event: "EpochDone") -> str:
    parts = [
        f"epoch {event.epoch}/{experiment.training.epochs}",
        f"loss {number(event.train_loss)}",
    ]
    if event.validation is not None:
        parts.append(f"validation {number(event.validation.loss)}")
        parts += [
            f"{name} {number(value)}"
            for name, value in event.validation.metrics.items()
            if isinstance(value, float) and name != "data_range"
        ]
    return ", ".join(parts) + (" (best)" if event.improved else "")
