"""What a user wants to know before training starts."""

from typing import TYPE_CHECKING

from msdtool.config import TrainingConfig
from msdtool.data.pair_names import disagreeing_pairs
from msdtool.nn.device import device_name
from msdtool.nn.memory import training_bytes
from msdtool.runs.model import num_parameters
from msdtool.wording import size_text

if TYPE_CHECKING:
    from msdtool.train.run import TrainingRun


def summarise(run: "TrainingRun") -> dict[str, str]:
    """Return data, network, memory, device and starting point, in words."""
    config, progress, network = run.config, run.learner.progress, run.config.network
    space = config.crop_size or run.input_shape[1:]
    channels = run.input_shape[0]
    trained = num_parameters(run.network.state_dict())
    share = -(-config.training.batch_size // run.processes.size)
    frozen = run.learner.frozen
    parameters = f"{trained:,} parameters"
    if frozen is not None:
        parameters += f", {frozen.num_parameters:,} of them frozen"
    memory = training_bytes(run.record.architecture, space, share)
    device = device_name(run.learner.device)
    if run.processes.size > 1:
        device = f"{run.processes.size} processes, the first on {device}"
    held_out = "none" if run.validation_pairs is None else str(len(run.validation_pairs))
    kind = "random crops" if config.crop_size else "whole images; this is the first one's size"
    start = f"epoch {progress.epoch + 1} of {config.training.epochs}"
    if progress.step:
        start += f", resumed at step {progress.step}"
    return {
        "task": f"{config.task}, loss {_loss_text(config.training)}",
        "data": f"{len(run.train_pairs)} training pairs, {held_out} for validation",
        "samples": f"{size_text((channels, *space))} (channels and pixels), {kind}",
        "network": f"MSD {len(config.convolved(space))}D, depth {network.depth}, "
        f"width {network.width}, {channels} -> {run.record.architecture.c_out} channels, "
        f"{parameters}",
        "memory": f"about {memory / 2**20:,.0f} MiB for a step",
        "device": device,
        "run directory": str(run.directory.path),
        "start": progress.finished or start,
    }


def pairing_warnings(run: "TrainingRun") -> list[str]:
    """Return what looks wrong in the pairing of the training and validation images."""
    differing = [
        disagreeing_pairs(stack.paths for stack in pairs.stacks().values())[:1]
        for pairs in (run.train_pairs, run.validation_pairs)
        if pairs is not None
    ]
    return [
        f"{input.name} is paired with {target.name}: the names disagree; 'msdtool check' shows "
        "all pairs"
        for input, target in dict.fromkeys(pair for found in differing for pair in found)
    ]


def _loss_text(training: TrainingConfig) -> str:
    if isinstance(training.loss, str):
        return training.loss
    return " + ".join(f"{weight:g} {name}" for name, weight in training.loss_terms.items())
