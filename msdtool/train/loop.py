"""The training loop: a generator that touches no file and prints nothing.

Whoever consumes its events logs, saves and decides to stop. At each event the network, the
optimizer, the schedule and the progress belong together, so that a checkpoint may be made of them.
Processes that train together come to the same events with the same state of all these.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn
from torch.optim import Optimizer

from msdtool.data import Sample
from msdtool.errors import InputError, TrainingError
from msdtool.nn.memory import out_of_memory
from msdtool.train.events import EpochDone, Event, ImageValidated, Progress, StepDone, Validation
from msdtool.train.losses import Loss
from msdtool.train.metrics import Metrics
from msdtool.train.optim import Schedule
from msdtool.train.processes import ALONE, Processes


@dataclass(frozen=True)
class Plan:
    """What to do how often."""

    epochs: int
    batches_per_epoch: int
    accumulate: int = 1
    gradient_clip: float | None = None
    validate_every: int = 1
    patience: int | None = None
    max_seconds: float | None = None
    seed: int = 0


@dataclass
class Learner:
    """Everything that changes while a network learns.

    Attributes:
        processes: those that train the network together; the loss has to sum over them.
        parallel: the network as training calls it.
    """

    network: nn.Module
    loss: Loss
    optimizer: Optimizer
    schedule: Schedule
    device: torch.device
    progress: Progress = field(default_factory=Progress)
    processes: Processes = ALONE
    parallel: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        self.parallel = self.processes.parallel(self.network)

    def spend(self, since: float) -> None:
        """Count the time from ``since`` on, by `time.perf_counter`, the same on every process."""
        seconds = self.progress.seconds + time.perf_counter() - since
        self.progress.seconds = self.processes.largest(seconds)


def train(
    learner: Learner,
    plan: Plan,
    batches: Iterator[Sample],
    validate: Callable[[], Generator[ImageValidated, None, Validation]] | None,
    name: Callable[[int], str],
) -> Iterator[Event]:
    """Train until the plan is fulfilled; `Progress.finished` then says why it ended.

    Args:
        learner: what learns; its progress tells where to go on.
        plan: what to do how often.
        batches: the training batches from there on.
        validate: starts a validation, see `validation`; None: the training loss is what counts.
        name: the file name of a training image, for messages.

    Raises:
        TrainingError: the loss or its gradient is not finite; the weights are the last good ones.
        InputError: the network cannot work on images of a batch.
    """
    progress = learner.progress
    learner.network.train()
    while not progress.finished:
        # Updates, up to the end of the epoch.
        epoch_end = (progress.epoch + 1) * plan.batches_per_epoch
        while progress.batches < epoch_end:
            start = time.perf_counter()
            group = min(plan.accumulate, epoch_end - progress.batches)
            done = _update(learner, plan, batches, group, name)
            learner.spend(start)
            yield done
            if _out_of_time(progress, plan):
                break

        # Validation.
        result = None
        is_last = progress.epoch + 1 >= plan.epochs or _out_of_time(progress, plan)
        if validate is not None and ((progress.epoch + 1) % plan.validate_every == 0 or is_last):
            start = time.perf_counter()
            result = yield from validate()
            learner.network.train()
            learner.spend(start)

        # What the epoch brought, and whether to go on.
        epoch = progress.epoch + 1
        train_loss = progress.loss_sum / (progress.batches - epoch_end + plan.batches_per_epoch)
        if progress.batches == epoch_end:
            progress.epoch, progress.loss_sum = epoch, 0.0
        score = train_loss if validate is None else result.loss if result else None
        improved = score is not None and score < progress.best_loss
        if improved and score is not None:
            progress.best_loss, progress.best_epoch, progress.stale = score, epoch, 0
        elif score is not None:
            progress.stale += 1
        if score is not None:
            learner.schedule.after_validation(score)
        progress.finished = _reason_to_finish(progress, plan)
        yield EpochDone(epoch, train_loss, result, improved)


def _update(
    learner: Learner,
    plan: Plan,
    batches: Iterator[Sample],
    group: int,
    name: Callable[[int], str],
) -> StepDone:
    """Average the gradients of ``group`` batches and update the weights once."""
    progress, processes = learner.progress, learner.processes
    # Layers that draw random numbers draw the same ones after a resume.
    torch.manual_seed(plan.seed + progress.step + (processes.rank << 33))
    learner.optimizer.zero_grad(set_to_none=True)
    losses: list[float] = []
    indices: list[int] = []
    waited = 0.0
    for number in range(group):
        asked = time.perf_counter()
        # A file that one process cannot read ends all, and they say so once.
        batch = processes.together(partial(next, batches))
        waited += time.perf_counter() - asked
        indices += batch.indices.tolist()
        is_last = number + 1 == group
        with nullcontext() if is_last else processes.accumulating(learner.parallel):
            losses.append(_backward(learner, batch, group, name))
    norm = _clip(learner.network, plan.gradient_clip)
    if not all(map(math.isfinite, [*losses, norm])):
        what = "gradient" if all(map(math.isfinite, losses)) else "loss"
        names = [name(index) for share in processes.gather(indices) for index in share]
        raise processes.agreed(
            TrainingError(
                f"the {what} is not finite at step {progress.step + 1} (epoch "
                f"{progress.epoch + 1}), in the batch of {', '.join(names)}; look at these images "
                "with 'msdtool check', or lower training.learning_rate or set "
                "training.gradient_clip"
            )
        )
    learning_rate = float(learner.optimizer.param_groups[0]["lr"])
    learner.optimizer.step()
    learner.schedule.after_update()
    progress.step += 1
    progress.batches += group
    progress.loss_sum += math.fsum(losses)
    progress.data_seconds += waited
    return StepDone(math.fsum(losses) / group, learning_rate)


def _backward(learner: Learner, batch: Sample, group: int, name: Callable[[int], str]) -> float:
    names = ", ".join(name(int(index)) for index in batch.indices)
    try:
        input, target, mask = to_device(batch, learner.device)
        loss = learner.loss(learner.parallel(input), target, mask)
        torch.autograd.backward(loss / group)
    except ValueError as error:
        raise InputError(f"{names}: {error}") from None
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise TrainingError(
            f"{names}: a training step on a batch of shape {tuple(batch.input.shape)} does not fit "
            "in memory; set data.crop, or lower training.batch_size or network.depth"
        ) from None
    return float(loss.detach())


def _clip(network: nn.Module, gradient_clip: float | None) -> float:
    """Limit the norm of the whole gradient; return what it was."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return float(nn.utils.clip_grad_norm_(trained, gradient_clip or math.inf))


def validation(
    learner: Learner,
    metrics: Metrics,
    batches: Iterator[Sample],
    name: Callable[[int], str],
    loss: Loss | None = None,
) -> Generator[ImageValidated, None, Validation]:
    """Measure the network on batches of one image each; the result is the return value.

    Each process measures its share, and all return the result of all images. A batch without an
    index belongs to no image, see `msdtool.data.loaders.validation_batches`.

    Args:
        learner: whose network is measured.
        metrics: what to measure.
        batches: this process's share of the images.
        name: the file name of an image, for messages.
        loss: of one image; None: the learner's, which must not sum over processes then.

    Raises:
        InputError: the network cannot work on an image.
        TrainingError: an image does not fit in memory.
    """
    learner.network.eval()
    loss = loss or learner.loss
    losses: dict[int, float] = {}
    index = 0
    following = partial(learner.processes.together, partial(next, batches, None))
    while (batch := following()) is not None:
        if batch.indices.numel():
            index = int(batch.indices)
            input, target, mask = to_device(batch, learner.device)
            try:
                with torch.no_grad():
                    output = learner.network(input)
                    losses[index] = float(loss(output, target, mask))
                    metrics.update(output, target, mask)
            except ValueError as error:
                raise InputError(f"{name(index)}: {error}") from None
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                raise TrainingError(
                    f"{name(index)}: validating an image of shape {tuple(batch.input.shape[1:])} "
                    "does not fit in memory; set data.validation.patch"
                ) from None
        yield ImageValidated(index)
    (losses, metrics), *others = learner.processes.gather((losses, metrics))
    for other_losses, other_metrics in others:
        losses |= other_losses
        metrics.add(other_metrics)
    in_order = [losses[index] for index in sorted(losses)]
    return Validation(math.fsum(in_order) / len(in_order), metrics.compute(), in_order)


def to_device(
    batch: Sample, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Return a batch's input, target and mask on the device."""
    mask = None if batch.mask is None else batch.mask.to(device)
    return batch.input.to(device), batch.target.to(device), mask


def _out_of_time(progress: Progress, plan: Plan) -> bool:
    return plan.max_seconds is not None and progress.seconds >= plan.max_seconds


def _reason_to_finish(progress: Progress, plan: Plan) -> str:
    if progress.epoch >= plan.epochs:
        return f"all {plan.epochs} epochs are done"
    if plan.patience is not None and progress.stale >= plan.patience:
        return f"no improvement in {progress.stale} validations"
    if _out_of_time(progress, plan):
        return f"the time of {plan.max_seconds:g} s is used up"
    return ""
