"""The training loop: a generator that uses no files and prints nothing.

The code that consumes its events logs, saves and decides when to stop. At each event the network,
the optimizer, the schedule and the progress are consistent, so that they can be saved as a
checkpoint after `Learner.settle`. Processes that train together yield the same events, with the
same state of all these.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from msdtool.data import Sample
from msdtool.data.levels import in_own_scale
from msdtool.errors import InputError, TrainingError
from msdtool.nn.memory import out_of_memory
from msdtool.runs.training_progress import TrainingProgress
from msdtool.train.events import EpochDone, Event, ImageValidated, StepDone, Validation
from msdtool.train.learner import Learner
from msdtool.train.unread import Update, reading
from msdtool.train.validation import to_device


@dataclass(frozen=True)
class Plan:
    """How long to train, and how often to do what."""

    epochs: int
    batches_per_epoch: int
    accumulate: int = 1
    gradient_clip: float | None = None
    validate_every: int = 1
    patience: int | None = None
    select: str = "loss"
    max_seconds: float | None = None
    seed: int = 0


def train(
    learner: Learner,
    plan: Plan,
    batches: Iterator[Sample],
    validate: Callable[[], Generator[ImageValidated, None, Validation]] | None,
    name: Callable[[int], str],
) -> Iterator[Event]:
    """Train until the plan is completed; `TrainingProgress.finished` then says why.

    Args:
        learner: what is trained, from its progress on.
        plan: how long to train, and how often to do what.
        batches: the training batches from that point on.
        validate: starts a validation, see `msdtool.train.validation`; None: the training loss is
            compared.
        name: returns the file name of a training image, for messages.

    Raises:
        TrainingError: the loss or its gradient is not finite. The weights are the last good ones,
            unless losses are read late.
        InputError: the network cannot process the images of a batch.
    """
    progress = learner.progress
    learner.name = name
    learner.start()
    while not progress.finished:
        # Updates, up to the end of the epoch.
        epoch_end = (progress.epoch + 1) * plan.batches_per_epoch
        while progress.batches < epoch_end:
            start = time.perf_counter()
            group = min(plan.accumulate, epoch_end - progress.batches)
            done = _update(learner, plan, batches, group)
            learner.spend(start)
            yield done
            if _out_of_time(progress, plan):
                break
        start = time.perf_counter()
        learner.settle()
        learner.spend(start)

        # Validation.
        result = None
        is_last = progress.epoch + 1 >= plan.epochs or _out_of_time(progress, plan)
        if validate is not None and ((progress.epoch + 1) % plan.validate_every == 0 or is_last):
            start = time.perf_counter()
            result = yield from validate()
            learner.start()
            learner.spend(start)

        # The result of the epoch, and whether to continue.
        epoch = progress.epoch + 1
        train_loss = progress.loss_sum / (progress.batches - epoch_end + plan.batches_per_epoch)
        gradient_norm = progress.mean_norm
        if progress.batches == epoch_end:
            progress.start_epoch(epoch + 1)
        score = None
        if validate is None or result is not None:
            score = _score(learner, plan, train_loss, result)
        improved = score is not None and score < progress.best_loss
        if improved and score is not None:
            progress.best_loss, progress.best_epoch, progress.stale = score, epoch, 0
        elif score is not None:
            progress.stale += 1
        if score is not None:
            learner.schedule.after_validation(score)
        progress.finished = _reason_to_finish(progress, plan)
        yield EpochDone(epoch, train_loss, gradient_norm, result, improved)


def _score(learner: Learner, plan: Plan, train_loss: float, result: Validation | None) -> float:
    """What epochs are compared by, the smaller the better.

    Raises:
        TrainingError: no image of the validation has it.
    """
    if result is None:
        return train_loss
    if plan.select == "loss":
        return result.loss
    value = float(result.metrics[plan.select])
    if not math.isfinite(value):
        raise learner.processes.agreed(
            TrainingError(
                f"training.select: {plan.select} of the validation images is {value:g}: they are "
                "too small for it, or no pixel counts; select the loss"
            )
        )
    return -value


def _update(
    learner: Learner,
    plan: Plan,
    batches: Iterator[Sample],
    group: int,
) -> StepDone:
    """Average the gradients of ``group`` batches and update the weights once."""
    progress, processes = learner.progress, learner.processes
    # Layers that draw random numbers draw the same ones after resuming.
    _seed(learner.device, plan.seed + progress.step + (processes.rank << 33))
    learner.optimizer.zero_grad(set_to_none=True)
    losses: list[Tensor] = []
    indices: list[int] = []
    waited = 0.0
    for _ in range(group):
        asked = time.perf_counter()
        # A file that one process cannot read ends all processes, and is reported once.
        batch = processes.together(partial(next, batches))
        waited += time.perf_counter() - asked
        indices += batch.indices.tolist()
        losses.append(_backward(learner, batch, group))
    processes.average_gradients(learner.network)
    learner.precision.unscale(learner.optimizer)
    if learner.frozen is not None:
        learner.frozen.before_update()
    norm = _clip(learner.network, plan.gradient_clip)
    read = reading([*losses, norm])
    learner.unread.append(Update(progress.step + 1, progress.epoch + 1, indices, read))
    if not learner.reads_late:
        learner.settle()
    learning_rate = float(learner.optimizer.param_groups[0]["lr"])
    learner.update()
    progress.step += 1
    progress.batches += group
    progress.data_seconds += waited
    if learner.reads_late:
        learner.settle(keep=0 if learner.last_loss is None else 1)
    assert learner.last_loss is not None
    return StepDone(learner.last_loss, learning_rate)


def _seed(device: torch.device, seed: int) -> None:
    """Seed the random numbers of a device.

    While no GPU is in use, torch.manual_seed would keep every seed for one, with a traceback: that
    takes memory, and a millisecond.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _backward(learner: Learner, batch: Sample, group: int) -> Tensor:
    names = ", ".join(map(learner.name, batch.indices.tolist()))
    try:
        sample = in_own_scale(to_device(batch, learner.device))
        precision = learner.precision
        with precision.products():
            output = precision.output(learner.called, sample.input)
            loss = learner.loss(output, sample.target, sample.mask)
            precision.backward(loss / group)
    except ValueError as error:
        raise InputError(f"{names}: {error}") from None
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise TrainingError(
            f"{names}: a training step on a batch of shape {tuple(batch.input.shape)} does not fit "
            "in memory; set data.crop, or lower training.batch_size or network.depth"
        ) from None
    return loss.detach()


def _clip(network: nn.Module, gradient_clip: float | None) -> Tensor:
    """Clip the norm of the whole gradient; return the norm before clipping."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return nn.utils.clip_grad_norm_(trained, gradient_clip or math.inf)


def _out_of_time(progress: TrainingProgress, plan: Plan) -> bool:
    return plan.max_seconds is not None and progress.seconds >= plan.max_seconds


def _reason_to_finish(progress: TrainingProgress, plan: Plan) -> str:
    if progress.epoch >= plan.epochs:
        return f"all {plan.epochs} epochs are done"
    if plan.patience is not None and progress.stale >= plan.patience:
        return f"no improvement in {progress.stale} validations"
    if _out_of_time(progress, plan):
        return f"the time limit of {plan.max_seconds:g} s is reached"
    return ""
