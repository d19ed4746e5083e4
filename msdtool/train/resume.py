"""Whether and where an earlier run resumes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from msdtool.architecture import Architecture
from msdtool.config import ExperimentConfig, changed_keys, earlier_defaults, load_saved_config
from msdtool.config.schema import TrainingConfig
from msdtool.errors import InputError, ModelFileError, RunDirectoryError
from msdtool.plain_data import shown
from msdtool.runs.checkpoint import load_checkpoint
from msdtool.runs.model import Checkpoint, Model
from msdtool.runs.rundir import RunDirectory, is_there
from msdtool.runs.training_progress import TrainingProgress
from msdtool.train.states import TrainingState, read_state


def as_started(directory: RunDirectory, config: ExperimentConfig) -> ExperimentConfig:
    """Return the experiment with the defaults of the version that started its run.

    It started from the initial network that it started from, whose file is not needed any more.

    Raises:
        ConfigError: the run's config cannot be used.
    """
    if not is_there(directory.last):
        return config
    saved = load_saved_config(directory.config)
    training = config.training
    is_open = training.initial is not None and training.initial_sha256 is None
    if is_open and not is_unstarted(directory):
        config = config.starting_from(saved.training.initial_sha256)
    return earlier_defaults.as_started(config, saved)


class Earlier(NamedTuple):
    """What an earlier run left.

    Attributes:
        checkpoint: its last one.
        state: what that holds of the training.
    """

    checkpoint: Checkpoint
    state: TrainingState


def earlier_run(
    directory: RunDirectory,
    config: ExperimentConfig,
    num_pairs: dict[str, int],
    architecture: Architecture,
) -> Earlier | None:
    """Return what to resume from, or None if the directory has no run.

    Args:
        directory: of the run.
        config: the present experiment.
        num_pairs: the present number of pairs, by the kinds that a checkpoint names.
        architecture: the network that is planned for them.

    Raises:
        RunDirectoryError: the run in the directory is of another experiment.
        InputError: it used other data.
        ModelFileError: its checkpoint cannot be used.
    """
    if not is_there(directory.last):
        if is_there(directory.best) or directory.metrics_bytes:
            raise RunDirectoryError(
                f"{directory.last}: is missing, so the run cannot be resumed; overwrite the run to "
                "start from scratch, which replaces best.pt",
                hint_key="overwrite",
            )
        return None
    with _advice():
        checkpoint = load_checkpoint(directory.last)
    if "num_pairs" not in checkpoint.training:
        raise ModelFileError(
            f"{directory.last}: contains a network but not the state of its training, so the run "
            "cannot be resumed"
        )
    changed = changed_keys(load_saved_config(directory.config), config)
    if changed:
        raise RunDirectoryError(
            f"{directory.path}: the run was started with other values of {', '.join(changed)}; "
            "revert the change, or choose another run.directory",
            hint_key="run.directory",
        )
    with damaged(directory.last):
        state = read_state(checkpoint, config)
    for kind, found in num_pairs.items():
        count = state.num_pairs[kind]
        if count != found:
            raise InputError(
                f"{directory.path}: the run was started on {count} {kind} images, now {found} were "
                "found; restore the files, or choose another run.directory",
                hint_key="run.directory",
            )
    with damaged(directory.last):
        _check_model(checkpoint.model, config, architecture)
    _check_best(directory, checkpoint)
    return Earlier(checkpoint, state)


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Turn a ValueError of the block into the error that a run's last checkpoint is damaged."""
    with _advice():
        try:
            yield
        except ValueError as error:
            if isinstance(error, ModelFileError):
                raise
            raise ModelFileError(f"{path}: is damaged: {error}") from None


@contextmanager
def _advice() -> Iterator[None]:
    """Say what to do if the last checkpoint cannot be used."""
    try:
        yield
    except ModelFileError as error:
        raise ModelFileError(
            f"{error.message}; the run cannot be resumed: restore the file, or overwrite the run "
            "to start from scratch, which replaces best.pt",
            hint_key="overwrite",
        ) from None


def _check_model(model: Model, config: ExperimentConfig, planned: Architecture) -> None:
    """Raise ValueError for another run's checkpoint; its layers may be worded differently."""
    keys = ("c_in", "c_out", "depth", "width", "dilations", "ndim", "padding", "stream")
    pairs = {f"architecture.{key}": (model.architecture, planned, key) for key in keys}
    found = {name: (getattr(a, key), getattr(b, key)) for name, (a, b, key) in pairs.items()}
    found |= {
        "task": (model.task, config.task),
        "labels": (list(model.labels), config.label_values),
        "ignore": (model.ignore, config.data.ignore),
        "slab": (model.slab, config.data.slab),
        "interval": (model.interval, config.training.interval or 0.0),
        "splits": (model.splits, len(config.data.train.splits or [])),
        "scaling": (
            model.scaling.to_dict(),
            config.data.normalisation.to_scaling().to_dict(),
        ),
    }
    for name, (value, expected) in found.items():
        if value != expected:
            raise ValueError(
                f"model.{name} is {shown(value)}; the run's config and images need "
                f"{shown(expected)}"
            )


def _check_best(directory: RunDirectory, checkpoint: Checkpoint) -> None:
    """Check that the best checkpoint can be used, if a best epoch is known.

    Raises:
        ModelFileError: it cannot.
    """
    if not checkpoint.progress.best_epoch:
        return
    try:
        load_checkpoint(directory.best)
    except ModelFileError as error:
        raise ModelFileError(
            f"{error.message}; it held the best network so far: restore the file, or copy "
            "last.pt to its place, which then counts as the best"
        ) from None


def is_unstarted(directory: RunDirectory) -> bool:
    """Whether the run in a directory ended before its first update, so that nothing is lost."""
    if not is_there(directory.path) or is_there(directory.best) or directory.metrics_bytes:
        return False
    try:
        return not is_there(directory.last) or load_checkpoint(directory.last).progress.step == 0
    except ModelFileError:
        return False


def reopen(progress: TrainingProgress, training: TrainingConfig) -> None:
    """Reopen a finished run that the config now asks more of; finish one that did enough."""
    more_epochs = progress.epoch < training.epochs
    more_time = training.max_time is None or progress.seconds < training.max_time
    more_patience = training.patience is None or progress.stale < training.patience
    if progress.finished and more_epochs and more_time and more_patience:
        progress.finished = ""
    elif not progress.finished and not more_epochs:
        progress.finished = f"{progress.epoch} of {training.epochs} epochs are done"
