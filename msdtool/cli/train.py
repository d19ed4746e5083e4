"""msdtool train"""

import logging
import os
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from msdtool.cli import console
from msdtool.cli.console import number
from msdtool.cli.imports import no_collection
from msdtool.cli.options import ConfigFile, Json, LogEvery, Overrides, Quiet
from msdtool.cli.signals import StopRequest
from msdtool.errors import ConfigError, RunDirectoryError, Stopped

if TYPE_CHECKING:
    from msdtool.config import ExperimentConfig
    from msdtool.train.events import EpochDone
    from msdtool.train.processes import Processes
    from msdtool.train.run import TrainingRun

log = logging.getLogger(__name__)

MAX_LABELS = 8
"""Of more labels, the line of an epoch does not show each IoU."""


def command(
    config: ConfigFile,
    set_: Overrides = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            "--run-dir", metavar="DIR", help="The run directory, instead of the config's."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run, or start it.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing run.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved config and stop.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    log_every: LogEvery = None,
) -> None:
    """Train a network; prints the best checkpoint's path.

    SIGTERM and SIGUSR1 save a checkpoint and exit with 75, Ctrl-C with 130; the same command with
    --resume then resumes the run, bit for bit.

    On several GPUs: torchrun --nproc-per-node=4 -m msdtool train denoise.yaml --resume

    Example: msdtool train denoise.yaml --set training.epochs=20 --run-dir runs/first
    """
    from msdtool.config import dump_config, load_config

    if resume and overwrite:
        raise ConfigError("--resume and --overwrite: choose one")
    overrides = list(set_ or [])
    if run_dir is not None:
        # Quoted, since it is a string: a directory may be called 2024 or a#b.
        # Bytes of its name that are not UTF-8 become escapes, which YAML reads as JSON does.
        quoted = dumps(str(run_dir), ensure_ascii=False).encode("utf-8", "backslashreplace")
        overrides.append(f"run.directory={quoted.decode()}")
    processes = _join()
    console.listen(quiet=quiet or not processes.is_main)
    experiment = processes.together(lambda: load_config(config, overrides, label="--set"))
    if dry_run:
        if processes.is_main:
            console.result(dump_config(experiment).rstrip())
        return
    if not resume:
        processes.on_main(lambda: _check_config(config, experiment))
    stop = StopRequest()
    try:
        run = _train(experiment, resume, overwrite, stop, processes, log_every)
        processes.close()
    except Stopped as stopped:
        processes.close()
        raise Stopped(stopped.message, stop.exit_code, hint_key=stopped.hint_key) from None
    if processes.is_main:
        _print_result(run, json)


def _check_config(file: Path, experiment: "ExperimentConfig") -> None:
    """Refuse to replace the config by the one of the run, unless a run wrote it."""
    from msdtool.config import dump_config, load_config
    from msdtool.runs.rundir import RunDirectory, is_there

    own = RunDirectory(experiment.run.directory).config
    if not (is_there(own) and file.is_file() and own.samefile(file)):
        return
    if file.read_text(encoding="utf-8") != dump_config(load_config(file)):
        raise RunDirectoryError(
            f"{file}: the run would replace it by the config with all defaults, since it lies in "
            "the run directory; move it"
        )


def _join() -> "Processes":
    """Connect to the other processes, if a launcher started several."""
    with no_collection():
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
    log_every: float | None,
) -> "TrainingRun":
    with no_collection():
        from msdtool.train.events import EpochDone, ImageValidated, StepDone
        from msdtool.train.prepare import prepare_run
        from msdtool.train.summary import pairing_warnings, summarise

    with console.progress("reading", log_every=log_every) as bar:
        run = prepare_run(
            experiment,
            resume=resume,
            overwrite=overwrite,
            should_stop=stop,
            progress=bar,
            processes=processes,
        )
    progress = run.learner.progress
    log.info(console.table(summarise(run)))
    for warning in pairing_warnings(run):
        log.warning(warning)
    if progress.finished:
        log.info(f"nothing to do, the run is finished: {progress.finished}")
        return run
    with console.progress("train", done=progress.step, log_every=log_every) as bar:
        for event in run.events():
            epoch = f"epoch {progress.epoch + 1}/{experiment.training.epochs}"
            if isinstance(event, StepDone):
                bar(progress.step, run.total_steps, f"{epoch}, loss {event.loss:.4g}")
            elif isinstance(event, ImageValidated):
                note = f"{epoch}, validating image {event.index + 1}"
                bar(progress.step, run.total_steps, note)
            elif isinstance(event, EpochDone):
                log.info(_epoch_line(experiment, event))
    log.info(f"finished: {progress.finished}; best epoch {progress.best_epoch}")
    return run


def _epoch_line(experiment: "ExperimentConfig", event: "EpochDone") -> str:
    parts = [
        f"epoch {event.epoch}/{experiment.training.epochs}",
        f"loss {number(event.train_loss)}",
    ]
    if event.validation is not None:
        parts.append(f"validation {number(event.validation.loss)}")
        baseline = event.validation.baseline
        parts += [
            f"{name} {number(value)}"
            + (f" (doing nothing {number(baseline[name])})" if name in baseline else "")
            for name, value in event.validation.metrics.items()
            if isinstance(value, float) and name != "data_range"
        ]
        overlaps = event.validation.metrics.get("iou")
        if isinstance(overlaps, dict) and len(overlaps) <= MAX_LABELS:
            parts.append("IoU " + " ".join(f"{k}: {v:.3f}" for k, v in overlaps.items()))
    return ", ".join(parts) + (" (best)" if event.improved else "")
