"""The training loop: a generator that uses no files and prints nothing.

The code that consumes its events logs, saves and decides when to stop. At each event the network,
the optimizer, the schedule and the progress are consistent, so that they can be saved as a
checkpoint. Processes that train together yield the same events, with the same state of all these.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn
from torch.optim import Optimizer

from msdtool.data import Sample
from msdtool.data.levels import in_own_scale
from msdtool.errors import InputError, TrainingError
from msdtool.nn.memory import out_of_memory
from msdtool.runs.training_progress import TrainingProgress
from msdtool.train.averaging import WeightAverage
from msdtool.train.events import EpochDone, Event, ImageValidated, StepDone, Validation
from msdtool.train.freezing import Frozen
from msdtool.train.losses import Loss
from msdtool.train.optim import Schedule
from msdtool.train.precision import Precision
from msdtool.train.processes import ALONE, Processes
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


@dataclass
class Learner:
    """Everything that changes while a network is trained.

    Attributes:
        network: on ``device``.
        loss: what is minimised; it sums over ``processes``.
        optimizer: of the network's parameters.
        schedule: of the optimizer's learning rate.
        device: where to compute.
        progress: how far training has come.
        processes: those that train the network together.
        average: of the network's weights over the updates, if there is one.
        frozen: the parts of the network that are not trained, if there are any.
        precision: of forward and backward pass.
        called: the network as training calls it, by CUDA graphs or on several GPUs.
    """

    network: nn.Module
    loss: Loss
    optimizer: Optimizer
    schedule: Schedule
    device: torch.device
    progress: TrainingProgress = field(default_factory=TrainingProgress)
    processes: Processes = ALONE
    average: WeightAverage | None = None
    frozen: Frozen | None = None
    precision: Precision = field(default_factory=Precision)
    called: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        self.processes.unite(self.network)
        self.called = self.network

    @property
    def result(self) -> nn.Module:
        """The network to validate and save: the average, or the one that is trained."""
        return self.network if self.average is None else self.average.network

    def start(self) -> None:
        """Set the network to train, but for its frozen parts."""
        self.network.train()
        if self.frozen is not None:
            self.frozen.start()

    def update(self) -> None:
        """Make an update with the gradients that the network has."""
        self.precision.step(self.optimizer)
        if self.frozen is not None:
            self.frozen.after_update()
        self.schedule.after_update()
        if self.average is not None:
            self.average.add(self.network)

    def spend(self, since: float) -> None:
        """Add the time since ``since``, by `time.perf_counter`; the same on every process."""
        seconds = self.progress.seconds + time.perf_counter() - since
        self.progress.seconds = self.processes.largest(seconds)


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
        TrainingError: the loss or its gradient is not finite; the weights are the last good ones.
        InputError: the network cannot process the images of a batch.
    """
    progress = learner.progress
    learner.start()
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
    name: Callable[[int], str],
) -> StepDone:
    """Average the gradients of ``group`` batches and update the weights once."""
    progress, processes = learner.progress, learner.processes
    # Layers that draw random numbers draw the same ones after resuming.
    _seed(learner.device, plan.seed + progress.step + (processes.rank << 33))
    learner.optimizer.zero_grad(set_to_none=True)
    losses: list[float] = []
    indices: list[int] = []
    waited = 0.0
    for _ in range(group):
        asked = time.perf_counter()
        # A file that one process cannot read ends all processes, and is reported once.
        batch = processes.together(partial(next, batches))
        waited += time.perf_counter() - asked
        indices += batch.indices.tolist()
        losses.append(_backward(learner, batch, group, name))
    processes.average_gradients(learner.network)
    learner.precision.unscale(learner.optimizer)
    if learner.frozen is not None:
        learner.frozen.before_update()
    norm = _clip(learner.network, plan.gradient_clip)
    is_skipped = learner.precision.skips(norm) and all(map(math.isfinite, losses))
    if not is_skipped and not all(map(math.isfinite, [*losses, norm])):
        what = "gradient" if all(map(math.isfinite, losses)) else "loss"
        names = [name(index) for share in processes.gather(indices) for index in share]
        raise processes.agreed(
            TrainingError(
                f"the {what} is not finite at step {progress.step + 1} (epoch "
                f"{progress.epoch + 1}), in the batch of {', '.join(names)}; look at these images "
                "with 'msdtool check', or lower training.learning_rate or set "
                f"training.gradient_clip{learner.precision.advice}"
            )
        )
    learning_rate = float(learner.optimizer.param_groups[0]["lr"])
    learner.update()
    progress.step += 1
    if not is_skipped:
        progress.updates += 1
        progress.norm_sum += norm
    progress.batches += group
    progress.loss_sum += math.fsum(losses)
    progress.data_seconds += waited
    return StepDone(math.fsum(losses) / group, learning_rate)


def _seed(device: torch.device, seed: int) -> None:
    """Seed the random numbers of a device.

    While no GPU is in use, torch.manual_seed would keep every seed for one, with a traceback: that
    takes memory, and a millisecond.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _backward(learner: Learner, batch: Sample, group: int, name: Callable[[int], str]) -> float:
    names = ", ".join(name(int(index)) for index in batch.indices)
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
    return float(loss.detach())


def _clip(network: nn.Module, gradient_clip: float | None) -> float:
    """Clip the norm of the whole gradient; return the norm before clipping."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return float(nn.utils.clip_grad_norm_(trained, gradient_clip or math.inf))


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
