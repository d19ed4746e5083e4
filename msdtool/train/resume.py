"""Whether and where an earlier run resumes."""

from msdtool.config import ExperimentConfig, changed_keys, earlier_defaults, load_saved_config
from msdtool.config.schema import TrainingConfig
from msdtool.errors import InputError, ModelFileError, RunDirectoryError
from msdtool.runs.checkpoint import Checkpoint, load_checkpoint
from msdtool.runs.rundir import RunDirectory
from msdtool.runs.training_progress import TrainingProgress


def as_started(directory: RunDirectory, config: ExperimentConfig) -> ExperimentConfig:
    """Return the experiment with the defaults of the version that started its run.

    Raises:
        ConfigError: the run's config cannot be used.
    """
    if not directory.last.exists():
        return config
    return earlier_defaults.as_started(config, load_saved_config(directory.config))


def earlier_checkpoint(
    directory: RunDirectory, config: ExperimentConfig, num_pairs: dict[str, int]
) -> Checkpoint | None:
    """Return the checkpoint to resume from, or None if the directory has none.

    Args:
        directory: of the run.
        config: the present experiment.
        num_pairs: the present number of pairs, by the kinds that a checkpoint names.

    Raises:
        RunDirectoryError: the run in the directory is of another experiment.
        InputError: it used other data.
        ModelFileError: its checkpoint cannot be used.
    """
    if not directory.last.exists():
        if directory.best.exists():
            raise RunDirectoryError(
                f"{directory.last}: is missing, so the run cannot be resumed; overwrite the run to "
                "start from scratch, which replaces best.pt",
                hint_key="overwrite",
            )
        return None
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
    for kind, found in num_pairs.items():
        count = checkpoint.training["num_pairs"][kind]
        if count != found:
            raise InputError(
                f"{directory.path}: the run was started on {count} {kind} images, now {found} were "
                "found; restore the files, or choose another run.directory",
                hint_key="run.directory",
            )
    return checkpoint


def is_unstarted(directory: RunDirectory) -> bool:
    """Whether the run in a directory ended before its first update, so that nothing is lost."""
    if not directory.path.is_dir() or directory.best.exists() or directory.metrics_bytes:
        return False
    try:
        return not directory.last.exists() or load_checkpoint(directory.last).progress.step == 0
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
