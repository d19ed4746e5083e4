"""msdtool train"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from msdtool.cli import console
from msdtool.cli.options import ConfigFile, Json, LogEvery, Overrides, Quiet
from msdtool.cli.signals import StopRequest
from msdtool.cli.training import join_processes, train_run
from msdtool.errors import ConfigError, RunDirectoryError, Stopped

if TYPE_CHECKING:
    from msdtool.config import ExperimentConfig
    from msdtool.train.run import TrainingRun


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
    from msdtool.config import directory_override, dump_config, load_config

    if resume and overwrite:
        raise ConfigError("--resume and --overwrite: choose one")
    overrides = list(set_ or [])
    if run_dir is not None:
        overrides.append(directory_override(run_dir))
    processes = join_processes()
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
        run = train_run(experiment, resume, overwrite, stop, processes, log_every)
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
                "select": run.config.training.select,
                "best_loss": progress.best_loss,
                "seconds": progress.seconds,
                "metrics": run.record.metrics,
            }
        )
    else:
        console.result(str(best))
