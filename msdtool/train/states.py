"""The stored state of a training, checked against the run that resumes before it is used.

torch takes states of any shape and type, and fails at the first update, or never.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from msdtool.config import ExperimentConfig
from msdtool.data.build import build_batches
from msdtool.plain_data import fits, read, shown
from msdtool.runs.model import Checkpoint
from msdtool.runs.training_progress import TrainingProgress
from msdtool.runs.weights import check_tensors, check_weights
from msdtool.train.learner import Learner

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class TrainingState:
    """A checkpoint's ``training``.

    Attributes:
        optimizer: its state dict.
        schedule: its state dict.
        metrics_bytes: length of metrics.jsonl when it was saved.
        num_pairs: number of pairs by kind.
        weights: of the network itself, if the model has their average; else None.
        averaged_updates: number of updates that are averaged.
        pictured: indices of the validation images that are drawn.
        scaler: state dict of the precision; empty if it needs none.
    """

    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    metrics_bytes: int
    num_pairs: dict[str, int]
    weights: dict[str, Tensor] | None = None
    averaged_updates: int = 0
    pictured: dict[str, int] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)


def read_state(checkpoint: Checkpoint, config: ExperimentConfig) -> TrainingState:
    """Return the state of a training, whose counters agree with each other.

    Args:
        checkpoint: of the run.
        config: the experiment.

    Raises:
        ValueError: a value is missing, of another type, or contradicts others; names it.
    """
    state = read(TrainingState, checkpoint.training, "training")
    for key in ("training", "validation"):
        if state.num_pairs.get(key, -1) < (key == "training"):
            raise ValueError(f"training.num_pairs is {shown(state.num_pairs)}; expected counts")
    if not all(0 <= index < state.num_pairs["validation"] for index in state.pictured.values()):
        raise ValueError(f"training.pictured is {shown(state.pictured)}; expected indices of pairs")
    if state.metrics_bytes < 0:
        raise ValueError(f"training.metrics_bytes is {state.metrics_bytes}; expected 0 or more")
    if (state.weights is None) != (config.training.average is None):
        raise ValueError("training.weights does not agree with training.average of the run")
    if state.weights is not None:
        check_weights(checkpoint.model.architecture, state.weights, "training.weights")
    per_epoch = build_batches(config, state.num_pairs["training"], 0).batches_per_epoch
    _check_counters(checkpoint.progress, per_epoch, config.training.accumulate)
    return state


def _check_counters(progress: TrainingProgress, per_epoch: int, accumulate: int) -> None:
    """Raise ValueError unless batches and updates are those of the epochs."""
    begun = progress.batches - progress.epoch * per_epoch
    if not 0 <= begun <= per_epoch:
        raise ValueError(
            f"progress.batches is {progress.batches}; expected {per_epoch} for each of "
            f"{progress.epoch} epochs, and at most as many of the next"
        )
    step = progress.epoch * -(-per_epoch // accumulate) + -(-begun // accumulate)
    if progress.step != step:
        raise ValueError(f"progress.step is {progress.step}; expected {step}")


def restore(learner: Learner, checkpoint: Checkpoint, state: TrainingState) -> None:
    """Continue from a state; the learner has the checkpoint's weights already.

    Raises:
        ValueError: the state is that of another network, or damaged; names what differs.
    """
    step = checkpoint.progress.step
    if state.weights is not None:
        assert learner.average is not None
        if state.averaged_updates != step:
            raise ValueError(
                f"training.averaged_updates is {state.averaged_updates}; expected {step}"
            )
        learner.average.load(checkpoint.model.state, state.averaged_updates)
    try:
        learner.precision.load_state_dict(state.scaler)
    except ValueError as error:
        raise ValueError(f"training.scaler{error}") from None
    # The optimizer does not count updates that are skipped, see `msdtool.train.precision`.
    counted = None if state.scaler else step
    restore_optimizer(learner.optimizer, learner.network, state.optimizer, counted)
    try:
        learner.schedule.load_state_dict(state.schedule)
    except ValueError as error:
        raise ValueError(f"training.schedule.{error}") from None
    if "updates" in state.schedule and learner.schedule.updates != step:
        raise ValueError(f"training.schedule.updates is not {step}, the number of updates")


def restore_optimizer(
    optimizer: Optimizer, network: nn.Module, saved: Any, step: int | None
) -> None:
    """Restore moments and learning rate of a saved state; everything else stays as configured.

    Args:
        optimizer: Adam or AdamW, of one group.
        network: whose parameters it updates.
        saved: its state dict.
        step: number of updates so far; None: unknown.

    Raises:
        ValueError: the state is that of another network, or damaged; names what differs.
    """
    if not isinstance(saved, dict):
        raise ValueError(f"training.optimizer is {shown(saved)}; expected keys and values")
    (group,), found = optimizer.state_dict()["param_groups"], saved.get("param_groups")
    name = "training.optimizer.param_groups"
    if not (isinstance(found, list) and len(found) == 1 and isinstance(found[0], dict)):
        raise ValueError(f"{name} is {shown(found)}; expected one group")
    rate: Any = found[0].get("lr")
    if not fits(rate, float) or not 0 <= rate < math.inf:
        raise ValueError(f"{name}[0].lr is {shown(rate)}; expected 0 or more")
    params = found[0].get("params")
    if not fits(params, list[int]) or params != group["params"]:
        raise ValueError(f"{name}[0].params are not those of the {len(group['params'])} weights")
    moments = saved.get("state")
    if not isinstance(moments, dict) or not set(moments) <= set(group["params"]):
        raise ValueError(f"training.optimizer.state is {shown(moments)}; expected the weights'")
    trained = [item for item in network.named_parameters() if item[1].requires_grad]
    for number, (weight, parameter) in enumerate(trained):
        place = f"training.optimizer.state.{number}"
        if number in moments:
            _check_moments(moments[number], parameter, step, place)
        elif step and weight.startswith("msd."):  # layers around it may not use all of theirs
            raise ValueError(f"{place}, that of {weight}, is missing")
    optimizer.load_state_dict({"state": moments, "param_groups": [{**group, "lr": rate}]})


def _check_moments(found: Any, parameter: nn.Parameter, step: int | None, name: str) -> None:
    """Raise ValueError unless a weight's state is that of Adam after at most so many updates."""
    tensors = found if isinstance(found, dict) and fits(found, dict[str, Tensor]) else {}
    if set(tensors) != {"step", *MOMENTS}:
        raise ValueError(f"{name} is {shown(found)}; expected step, {', '.join(MOMENTS)}")
    check_tensors(tensors, name)
    for key in MOMENTS:
        if tensors[key].shape != parameter.shape:
            raise ValueError(
                f"{name}.{key} has shape {tuple(tensors[key].shape)}; its weight has "
                f"{tuple(parameter.shape)}"
            )
    if (tensors["exp_avg_sq"] < 0).any():
        raise ValueError(f"{name}.exp_avg_sq has negative values")
    most = math.inf if step is None else step
    if tensors["step"].numel() != 1 or not 1 <= float(tensors["step"]) <= most:
        raise ValueError(f"{name}.step is {shown(tensors['step'])}; expected 1 to {most}")
