"""Whether and where an earlier run goes on."""

from msdtool.config import ExperimentConfig, changed_keys, load_config
from msdtool.config.schema import TrainingConfig
from msdtool.errors import InputError, ModelFileError, RunDirectoryError
from msdtool.runs.checkpoint import Checkpoint, load_checkpoint
from msdtool.runs.rundir import RunDirectory
from msdtool.train.events import Progress


def earlier_checkpoint(
    directory: RunDirectory, config: ExperimentConfig, num_pairs: dict[str, int]
) -> Checkpoint | None:
    """Return the checkpoint to go on from, or None if the directory has none.

    Args:
        directory: of the run.
        config: the experiment as it is now.
        num_pairs: how many pairs there are now, by the kinds that a checkpoint names.

    Raises:
        RunDirectoryError: the run there was another one.
        InputError: it had other data.
        ModelFileError: its checkpoint cannot be used.
    """
    if not directory.last.exists():
        if directory.best.exists():
            raise RunDirectoryError(
                f"{directory.last}: is missing, so that the run cannot go on; start it "
                "anew with --overwrite, which replaces best.pt"
            )
        return None
    checkpoint = load_checkpoint(directory.last)
    if "num_pairs" not in checkpoint["training"]:
        raise ModelFileError(
            f"{directory.last}: holds a network but no state of its training, so that "
            "the run cannot go on"
        )
    changed = changed_keys(load_config(directory.config), config)
    if changed:
        raise RunDirectoryError(
            f"{directory.path}: the run there was started with other values of "
            f"{', '.join(changed)}; take back the change, or start anew with --run-dir"
        )
    for kind, found in num_pairs.items():
        count = checkpoint["training"]["num_pairs"][kind]
        if count != found:
            raise InputError(
                f"{directory.path}: the run was started on {count} {kind} images, now "
                f"{found} are found; restore the files, or start anew with --run-dir"
            )
    return checkpoint


def reopen(progress: Progress, training: TrainingConfig) -> None:
    """A finished run goes on when it is now asked for more; one that did all is finished."""
    more_epochs = progress.epoch < training.epochs
    more_time = training.max_time is None or progress.seconds < training.max_time
    more_patience = training.patience is None or progress.stale < training.patience
    if progress.finished and more_epochs and more_time and more_patience:
        progress.finished = ""
    elif not progress.finished and not more_epochs:
        progress.finished = f"{progress.epoch} of {training.epochs} epochs are done"
