"""Losses that are read an update late, with stand-ins for a GPU's memory and events."""

import copy
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from msdtool.errors import TrainingError
from msdtool.train import loop
from msdtool.train.events import EpochDone, StepDone
from msdtool.train.loop import Plan, train
from msdtool.train.precision import Precision
from msdtool.train.unread import reading
from tests.train.test_loop import endless, make_batch, make_learner, names, spoiled, weights


def late(learner):
    learner.reads_late = True
    return learner


def test_updates_are_the_same_and_losses_come_one_update_later():
    plan = Plan(2, 3, gradient_clip=0.1, accumulate=1)
    at_once, delayed = make_learner(), late(make_learner())
    one = list(train(at_once, plan, endless(3), None, names))
    two = list(train(delayed, plan, endless(3), None, names))
    assert torch.equal(weights(at_once), weights(delayed))
    assert [e for e in one if isinstance(e, EpochDone)] == [
        e for e in two if isinstance(e, EpochDone)
    ]
    losses, shown = ([e.loss for e in found if isinstance(e, StepDone)] for found in (one, two))
    # The first one is waited for, and at the end of an epoch all are read.
    assert shown == [losses[0], losses[0], losses[1], losses[2], losses[3], losses[4]]
    at_once.progress.seconds = at_once.progress.data_seconds = 0
    delayed.progress.seconds = delayed.progress.data_seconds = 0
    assert at_once.progress == delayed.progress


def test_an_update_is_started_before_the_loss_of_the_one_before_is_read(monkeypatch):
    order, number = [], iter(range(1, 9))

    def spy(values):
        step, numbers = next(number), [float(value) for value in values]

        def read():
            order.append(f"read {step}")
            return numbers

        order.append(f"started {step}")
        return read

    monkeypatch.setattr(loop, "reading", spy)
    list(train(late(make_learner()), Plan(1, 4), endless(4), None, names))
    assert order == [
        "started 1", "read 1", "started 2", "started 3", "read 2", "started 4", "read 3", "read 4",
    ]  # fmt: skip


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("found_by", ["the next update", "the end of the epoch", "a checkpoint"])
def test_what_is_not_finite_names_the_files_of_its_own_update(value, found_by):
    learner = late(make_learner())
    position = 3 if found_by == "the end of the epoch" else 2
    batches = spoiled((make_batch(2 * i, 2 * i + 1) for i in range(4)), position, value)
    events = train(learner, Plan(1, 4), batches, None, names)
    for _ in range(position + 1):
        next(events)
    progress = copy.copy(learner.progress)
    with pytest.raises(TrainingError) as error:
        learner.settle() if found_by == "a checkpoint" else next(events)
    message = error.value.message
    assert f"the loss is not finite at step {position + 1} (epoch 1)" in message
    assert f"in the batch of file{2 * position}.tif, file{2 * position + 1}.tif;" in message
    assert learner.progress.loss_sum == progress.loss_sum  # nothing of it is noted


class Waits(TorchDispatchMode):
    """Finds operations that wait for a GPU: numbers that Python asks for, and copies that block."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, function.overloadpacket.__name__
        blocks = name == "_to_copy" and "device" in kwargs and not kwargs.get("non_blocking")
        if blocks or name in ("_local_scalar_dense", "nonzero", "is_nonzero", "lift_fresh"):
            self.found.append(name)
        return function(*args, **kwargs)


@pytest.mark.parametrize("masked", [False, True])
def test_no_update_waits_for_the_device(masked):
    """But for the first one, which makes what is kept."""
    learner = late(make_learner())
    samples = [make_batch(i) for i in range(4)]
    if masked:
        samples = [batch._replace(mask=batch.input < 0.5) for batch in samples]
    events = train(learner, Plan(1, 4, gradient_clip=1.0), iter(samples), None, names)
    next(events)
    with Waits() as waits:
        for _ in range(3):
            next(events)
    assert waits.found == []


def test_only_updates_that_no_value_decides_are_read_late():
    def learner(device, precision):
        learner = make_learner()
        learner.device, learner.precision = torch.device(device), Precision(precision)
        learner.__post_init__()
        return learner.reads_late

    assert learner("cuda", "float32") and learner("cuda", "bf16")
    assert not learner("cuda", "fp16") and not learner("cpu", "float32")


@pytest.mark.gpu
def test_a_value_is_read_without_waiting_for_what_follows():
    read = reading([torch.full((), 2.5, device="cuda"), torch.full((), 1.0, device="cuda")])
    torch.cuda._sleep(2_000_000_000)
    assert read() == [2.5, 1.0]
    assert not torch.cuda.current_stream().query()
