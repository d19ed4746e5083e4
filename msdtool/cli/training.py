"""Training as a command shows it: a summary, a bar, a line for each epoch."""

import logging
import os
from typing import TYPE_CHECKING

from msdtool.cli import console
from msdtool.cli.imports import no_collection
from msdtool.cli.signals import StopRequest
from msdtool.wording import number

if TYPE_CHECKING:
    from msdtool.config import ExperimentConfig
    from msdtool.train.events import EpochDone
    from msdtool.train.processes import Processes
    from msdtool.train.run import TrainingRun

log = logging.getLogger(__name__)

MAX_LABELS = 8
"""Of more labels, the line of an epoch does not show each IoU."""


def join_processes() -> "Processes":
    """Connect to the other processes, if a launcher started several."""
    with no_collection():
        from msdtool.train.processes import ALONE, find_launch

    launch = find_launch(os.environ)
    if launch is None:
        return ALONE
    from msdtool.train.distributed import Distributed

    return Distributed(launch)


def train_run(
    experiment: "ExperimentConfig",
    resume: bool,
    overwrite: bool,
    stop: StopRequest,
    processes: "Processes",
    log_every: float | None,
) -> "TrainingRun":
    """Train an experiment, or resume its run, and tell how it goes.

    Raises:
        Error: see `msdtool.train.prepare.prepare_run` and `TrainingRun.events`.
    """
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
    select = experiment.training.select
    by = "" if select == "loss" else f" by {select}"
    log.info(f"finished: {progress.finished}; best epoch {progress.best_epoch}{by}")
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
