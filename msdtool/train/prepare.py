"""From a config to a run that can start: data are opened and measured, the directory is claimed."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from msdtool.config import ExperimentConfig, dump_config
from msdtool.errors import Stopped
from msdtool.nn.build import build_network, restore_network
from msdtool.nn.device import warn_if_slow
from msdtool.nn.scaling import ScaledNetwork
from msdtool.progress import Progress, no_progress
from msdtool.runs.model import Normalisation
from msdtool.runs.rundir import RunDirectory
from msdtool.train.baseline import Baseline
from msdtool.train.build import build_learner
from msdtool.train.data_checks import check_data
from msdtool.train.environment import environment
from msdtool.train.initial import load_initial
from msdtool.train.learner import Learner
from msdtool.train.normalise import Measured, know_levels, measure_normalisation
from msdtool.train.opening import Opened, open_experiment
from msdtool.train.processes import ALONE, Processes
from msdtool.train.record import Record
from msdtool.train.resume import Earlier, as_started, damaged, earlier_run, is_unstarted, reopen
from msdtool.train.run import TrainingRun
from msdtool.train.states import restore
from msdtool.train.tensorboard import TensorBoardLog

STOPPED = "stopped before the first step; nothing is lost, start again"
log = logging.getLogger(__name__)


def prepare_run(
    config: ExperimentConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Progress = no_progress,
    processes: Processes = ALONE,
) -> TrainingRun:
    """Prepare an experiment in its run directory, new or resumed.

    Args:
        config: the experiment.
        resume: resume the run in the directory, or start it if there is none.
        overwrite: replace a run in the directory.
        should_stop: called after each update and each image that is read or validated.
        progress: told how many of the training images have been measured.
        processes: those that train the network together. Only the main one uses the directory.

    Raises:
        RunDirectoryError: the directory holds something that must not be lost.
        ConfigError: the config does not fit the machine, or the run that is resumed.
        InputError: the data cannot be used.
        Stopped: the run was asked to stop before its first step.
    """
    directory = RunDirectory(config.run.directory)
    if resume:
        started = partial(as_started, directory, config)
        config = processes.together(started)
    tensorboard = TensorBoardLog(directory.tensorboard) if config.run.tensorboard else None
    opened = processes.together(lambda: open_experiment(config, processes))
    warn_if_slow(opened.device)
    try:
        earlier = processes.on_main(lambda: _claim(directory, config, opened, resume, overwrite))
        if earlier is None:
            start = _begin(config, opened, processes, should_stop, progress)
        else:
            opened = replace(opened, architecture=earlier.checkpoint.model.architecture)
            network = processes.together(partial(_earlier_network, directory, earlier))
            start = _Start(config, network, earlier.checkpoint.model.normalisation)
        for pairs in (opened.train_pairs, opened.validation_pairs):
            if pairs is not None:
                know_levels(pairs, _stoppable(should_stop, progress), processes)
        record = _record(directory, opened, start, earlier, processes, tensorboard)
    except BaseException:
        directory.release()
        raise
    return TrainingRun(
        config=start.config,
        record=record,
        train_pairs=opened.train_pairs,
        validation_pairs=opened.validation_pairs,
        baseline=Baseline(
            config.label_values,
            start.normalisation.label_counts,
            start.normalisation.data_range,
            config.data.slab,
        ),
        input_shape=opened.input_shape,
        should_stop=should_stop,
    )


@dataclass(frozen=True)
class _Start:
    """What training begins with, or continues from.

    Attributes:
        config: the experiment, with the hash of the network that it starts from, if it does.
        network: on the CPU.
        normalisation: of the network, as measured.
        notes: on the network that it starts from, for the log.
    """

    config: ExperimentConfig
    network: ScaledNetwork
    normalisation: Normalisation
    notes: Sequence[str] = ()


def _begin(
    config: ExperimentConfig,
    opened: Opened,
    processes: Processes,
    should_stop: Callable[[], bool],
    progress: Progress,
) -> _Start:
    """Check the data, measure them and build the network, or start from a trained one."""
    processes.on_main(lambda: _check(config, opened, should_stop))
    initial = processes.on_main(partial(load_initial, config, opened.architecture))
    torch.manual_seed(config.training.seed)
    network = build_network(opened.architecture)
    measured = _measure(config, opened, processes, should_stop, progress)
    measured.set_layers(network)
    normalisation = measured.normalisation
    if initial is None:
        return _Start(config, network, normalisation)
    config = config.starting_from(initial.sha256)
    notes = list(initial.describe(config, normalisation))
    keep = config.training.initial_normalisation == "keep"
    return _Start(config, network, initial.start(network, normalisation, keep=keep), notes)


def _record(
    directory: RunDirectory,
    opened: Opened,
    start: _Start,
    earlier: Earlier | None,
    processes: Processes,
    tensorboard: TensorBoardLog | None,
) -> Record:
    """Build what trains the network, in the state of an earlier run if there is one."""
    config = start.config
    learner = build_learner(
        config,
        start.network,
        start.normalisation,
        len(opened.train_pairs),
        opened.device,
        processes,
        graphs=opened.graphs,
    )
    if earlier is not None:
        processes.together(partial(_restore, directory, learner, earlier))
    processes.on_main(
        lambda: _describe(directory, start, opened, processes, is_new=earlier is None)
    )
    record = Record(
        config,
        directory,
        learner,
        architecture=opened.architecture,
        normalisation=start.normalisation,
        num_pairs=opened.num_pairs,
        tensorboard=tensorboard,
    )
    if earlier is not None:
        processes.on_main(partial(_resume_rows, directory, earlier))
        record.metrics = earlier.checkpoint.metrics
        record.pictures.chosen = earlier.state.pictured
        reopen(learner.progress, config.training)
        if learner.progress.finished:
            processes.on_main(partial(record.finish, opened.validation_pairs))
    return record


def _claim(
    directory: RunDirectory, config: ExperimentConfig, opened: Opened, resume: bool, overwrite: bool
) -> Earlier | None:
    """Claim the directory; return what to resume from, if there is a run."""
    is_new = overwrite or is_unstarted(directory)
    directory.claim(resume=resume, overwrite=is_new)
    if is_new and not overwrite and not is_unstarted(directory):
        directory.claim(resume=resume, overwrite=False)  # another process was faster
        is_new = False
    if is_new:
        return None
    return earlier_run(directory, config, opened.num_pairs, opened.architecture)


def _check(config: ExperimentConfig, opened: Opened, should_stop: Callable[[], bool]) -> None:
    """Find what training would fail on, unless asked to stop."""

    def stoppable() -> None:
        if should_stop():
            raise Stopped(STOPPED)

    check_data(config, opened.architecture, opened.train_pairs, opened.validation_pairs, stoppable)


def _measure(
    config: ExperimentConfig,
    opened: Opened,
    processes: Processes,
    should_stop: Callable[[], bool],
    progress: Progress,
) -> Measured:
    """Measure the training images, unless asked to stop."""
    log.info(f"measuring {len(opened.train_pairs)} training pairs")
    stoppable = _stoppable(should_stop, progress)
    return measure_normalisation(config, opened.train_pairs, stoppable, processes)


def _stoppable(should_stop: Callable[[], bool], progress: Progress) -> Progress:
    """Report progress, unless asked to stop."""

    def report(done: float, total: float, note: str = "", /) -> None:
        if should_stop():
            raise Stopped(STOPPED)
        progress(done, total, note)

    return report


def _describe(
    directory: RunDirectory,
    start: _Start,
    opened: Opened,
    processes: Processes,
    *,
    is_new: bool,
) -> None:
    """Write environment.json and config.yaml, of a new run after clearing the directory.

    Notes on the network that it starts from go to the log.
    """
    if is_new:
        directory.clear()
    text = json.dumps(environment(opened.device, processes.size), indent=2)
    directory.write_text(directory.environment, text + "\n")
    directory.write_text(directory.config, dump_config(start.config))
    for note in start.notes:
        directory.log(note)
        log.info(note)


def _earlier_network(directory: RunDirectory, earlier: Earlier) -> ScaledNetwork:
    """Build the network of an earlier run, with the weights that training continues from."""
    model, weights = earlier.checkpoint.model, earlier.state.weights
    with damaged(directory.last):
        return restore_network(model.architecture, model.state if weights is None else weights)


def _restore(directory: RunDirectory, learner: Learner, earlier: Earlier) -> None:
    """Continue from the state of an earlier run."""
    with damaged(directory.last):
        restore(learner, *earlier)
    learner.progress = replace(earlier.checkpoint.progress)


def _resume_rows(directory: RunDirectory, earlier: Earlier) -> None:
    """Drop the rows that are about to be written again, and say what had to be repaired."""
    progress, state = earlier.checkpoint.progress, earlier.state
    for message in directory.resume_rows(progress, state.metrics_bytes):
        directory.log(f"warning: {message}")
        log.warning(message)
