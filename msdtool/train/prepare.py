"""From a config to a run that can start: data are opened and measured, the directory is claimed."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from msdtool.architecture import Architecture
from msdtool.config import ExperimentConfig, dump_config
from msdtool.data import Pairs
from msdtool.data.build import build_datasets
from msdtool.errors import ConfigError, Stopped
from msdtool.nn.build import build_network, restore_network
from msdtool.nn.device import choose_device, warn_if_slow
from msdtool.nn.from_config import check_scale, plan_architecture
from msdtool.nn.scaling import ScaledNetwork
from msdtool.progress import Progress, no_progress
from msdtool.runs.model import Normalisation
from msdtool.runs.rundir import RunDirectory
from msdtool.train.baseline import Baseline
from msdtool.train.build import (
    build_learner,
    check_graphs,
    check_images,
    measure_normalisation,
    set_normalisation,
)
from msdtool.train.data_checks import check_data
from msdtool.train.environment import environment
from msdtool.train.initial import load_initial
from msdtool.train.loop import Learner
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
    plan = processes.together(lambda: _open(config, processes))
    warn_if_slow(plan.device)
    notes: list[str] = []
    try:
        earlier = processes.on_main(lambda: _claim(directory, config, plan, resume, overwrite))
        if earlier is None:
            processes.on_main(lambda: _check(config, plan, should_stop))
            initial = processes.on_main(partial(load_initial, config, plan.architecture))
            network = _new_network(config, plan)
            normalisation = _measure(config, plan, processes, should_stop, progress)
            set_normalisation(network, normalisation)
            if initial is not None:
                config = config.starting_from(initial.sha256)
                notes = list(initial.describe(config, normalisation))
                keep = config.training.initial_normalisation == "keep"
                normalisation = initial.start(network, normalisation, keep=keep)
        else:
            plan = replace(plan, architecture=earlier.checkpoint.model.architecture)
            network = processes.together(partial(_earlier_network, directory, earlier))
            normalisation = earlier.checkpoint.model.normalisation
        learner = build_learner(
            config, network, normalisation, len(plan.train_pairs), plan.device, processes
        )
        if earlier is not None:
            processes.together(partial(_restore, directory, learner, earlier))
        processes.on_main(
            lambda: _describe(directory, config, plan, processes, notes, is_new=earlier is None)
        )
        record = Record(
            config,
            directory,
            learner,
            architecture=plan.architecture,
            normalisation=normalisation,
            num_pairs=plan.num_pairs,
            tensorboard=tensorboard,
        )
        if earlier is not None:
            processes.on_main(partial(_resume_rows, directory, earlier))
            record.metrics = earlier.checkpoint.metrics
            record.pictures.chosen = earlier.state.pictured
            reopen(learner.progress, config.training)
            if learner.progress.finished:
                processes.on_main(partial(record.finish, plan.validation_pairs))
    except BaseException:
        directory.release()
        raise
    return TrainingRun(
        config=config,
        record=record,
        train_pairs=plan.train_pairs,
        validation_pairs=plan.validation_pairs,
        baseline=Baseline(
            config.label_values,
            normalisation.label_counts,
            normalisation.data_range,
            config.data.slab,
        ),
        input_shape=plan.input_shape,
        should_stop=should_stop,
    )


@dataclass(frozen=True)
class _Plan:
    """The data of an experiment, and the network that fits them.

    Attributes:
        device: where to train.
        train_pairs: the training set.
        validation_pairs: the validation set, if there is one.
        input_shape: of the first training image, [C, *space].
        architecture: of the network.
    """

    device: torch.device
    train_pairs: Pairs
    validation_pairs: Pairs | None
    input_shape: tuple[int, ...]
    architecture: Architecture

    @property
    def num_pairs(self) -> dict[str, int]:
        """Number of pairs by kind, as a checkpoint records them."""
        return {
            "training": len(self.train_pairs),
            "validation": 0 if self.validation_pairs is None else len(self.validation_pairs),
        }


def _open(config: ExperimentConfig, processes: Processes) -> _Plan:
    """Choose the device, open the data and plan the network."""
    batch_size, size = config.training.batch_size, processes.size
    if batch_size < size:
        raise ConfigError(
            f"training.batch_size: {batch_size} cannot be shared by {size} processes; it counts "
            f"the images of all processes: set {size} or more, or start fewer processes"
        )
    device = choose_device(config.training.device)
    processes.use_device(device)
    if config.training.cuda_graphs:
        check_graphs(device, size)
    train_pairs, validation_pairs = build_datasets(config)
    # One pixel has all channels; a volume may be larger than memory.
    space = train_pairs.space(0)
    first = train_pairs.sample(0, tuple(slice(0, 1) for _ in space))
    planned = plan_architecture(
        config,
        first.input.shape[0],
        config.num_labels or first.target.shape[0],
        config.crop_size or space,
    )
    check_scale(config, planned, train_pairs.scale)
    check_images(config, planned, train_pairs, validation_pairs)
    input_shape = (first.input.shape[0], *space)
    return _Plan(device, train_pairs, validation_pairs, input_shape, planned)


def _claim(
    directory: RunDirectory, config: ExperimentConfig, plan: _Plan, resume: bool, overwrite: bool
) -> Earlier | None:
    """Claim the directory; return what to resume from, if there is a run."""
    is_new = overwrite or is_unstarted(directory)
    directory.claim(resume=resume, overwrite=is_new)
    if is_new and not overwrite and not is_unstarted(directory):
        directory.claim(resume=resume, overwrite=False)  # another process was faster
        is_new = False
    if is_new:
        return None
    return earlier_run(directory, config, plan.num_pairs, plan.architecture)


def _new_network(config: ExperimentConfig, plan: _Plan) -> ScaledNetwork:
    torch.manual_seed(config.training.seed)
    return build_network(plan.architecture)


def _check(config: ExperimentConfig, plan: _Plan, should_stop: Callable[[], bool]) -> None:
    """Find what training would fail on, unless asked to stop."""

    def stoppable() -> None:
        if should_stop():
            raise Stopped(STOPPED)

    check_data(config, plan.architecture, plan.train_pairs, plan.validation_pairs, stoppable)


def _measure(
    config: ExperimentConfig,
    plan: _Plan,
    processes: Processes,
    should_stop: Callable[[], bool],
    progress: Progress,
) -> Normalisation:
    """Measure the training images, unless asked to stop."""

    def stoppable(done: float, total: float, note: str = "", /) -> None:
        if should_stop():
            raise Stopped(STOPPED)
        progress(done, total, note)

    log.info(f"measuring {len(plan.train_pairs)} training pairs")
    return measure_normalisation(config, plan.train_pairs, stoppable, processes)


def _describe(
    directory: RunDirectory,
    config: ExperimentConfig,
    plan: _Plan,
    processes: Processes,
    notes: Sequence[str],
    *,
    is_new: bool,
) -> None:
    """Write environment.json and config.yaml, of a new run after clearing the directory.

    Notes on the network that it starts from go to the log.
    """
    if is_new:
        directory.clear()
    text = json.dumps(environment(plan.device, processes.size), indent=2)
    directory.write_text(directory.environment, text + "\n")
    directory.write_text(directory.config, dump_config(config))
    for note in notes:
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
