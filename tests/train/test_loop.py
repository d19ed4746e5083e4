"""The training loop in float64, on batches made in memory."""

import copy
import itertools
import math

import pytest
import torch
from torch.optim import SGD

from msdtool.data import Sample
from msdtool.errors import InputError, TrainingError
from msdtool.nn import MSDModule
from msdtool.train.events import EpochDone, ImageValidated, StepDone, Validation
from msdtool.train.learner import Learner
from msdtool.train.loop import Plan, train
from msdtool.train.losses import RegressionLoss
from msdtool.train.optim import Schedule

CPU = torch.device("cpu")
names = "file{}.tif".format


def make_learner(lr=0.05, loss=None, seed=0):
    torch.manual_seed(seed)
    network = MSDModule(1, 1, 2, 1, [1, 2]).double()
    torch.nn.init.normal_(network.final_layer.linear.weight, std=0.3)
    optimizer = SGD(network.parameters(), lr)
    return Learner(
        network, loss or RegressionLoss("L2"), optimizer, Schedule("constant", optimizer, 1), CPU
    )


def make_batch(*indices, size=6):
    rng = torch.Generator().manual_seed(1000 + indices[0])
    shape = (len(indices), 1, size, size)
    input, target = (torch.rand(shape, generator=rng, dtype=torch.float64) for _ in range(2))
    return Sample(input, target, None, torch.tensor(indices))


def endless(count):
    return itertools.cycle([make_batch(i) for i in range(count)])


def weights(learner):
    return torch.cat([p.detach().flatten() for p in learner.network.parameters()])


def scripted(losses):
    """Validations that find the given losses, on two images each."""
    remaining = iter(losses)

    def validate():
        yield ImageValidated(0)
        yield ImageValidated(1)
        loss = next(remaining)
        return Validation(loss, {"psnr": 1.0}, [loss, loss])

    return validate


LETTERS = {StepDone: "s", ImageValidated: "v", EpochDone: "E"}


def run(learner, plan, batches=None, validate=None):
    """Train to the end; return the kinds of events as letters, and the epochs' events."""
    batches = batches or endless(plan.batches_per_epoch)
    events = list(train(learner, plan, batches, validate, names))
    letters = "".join(LETTERS[type(event)] for event in events)
    return letters, [event for event in events if isinstance(event, EpochDone)]


@pytest.mark.parametrize(
    ("accumulate", "validate_every", "expected"),
    [
        (1, 1, "ssssvvE" * 3),
        (2, 1, "ssvvE" * 3),
        (3, 1, "ssvvE" * 3),  # three batches, then the one that is left
        (1, 2, "ssssE" + "ssssvvE" * 2),  # the last epoch is validated
        (9, 5, "sE" + "sE" + "svvE"),
    ],
)
def test_events_come_in_order(accumulate, validate_every, expected):
    learner = make_learner()
    plan = Plan(3, 4, accumulate=accumulate, validate_every=validate_every)
    letters, _ = run(learner, plan, validate=scripted([3, 2, 1]))
    assert letters == expected
    progress = learner.progress
    assert (progress.epoch, progress.batches, progress.step) == (3, 12, letters.count("s"))
    assert progress.finished == "all 3 epochs are done"


def test_progress_belongs_to_the_event():
    learner = make_learner()
    seen = []
    for event in train(learner, Plan(2, 2), endless(2), scripted([2, 1]), names):
        progress = learner.progress
        seen.append((LETTERS[type(event)], progress.epoch, progress.step, bool(progress.finished)))
    first = [("s", 0, 1, False), ("s", 0, 2, False), ("v", 0, 2, False), ("v", 0, 2, False)]
    second = [("s", 1, 3, False), ("s", 1, 4, False), ("v", 1, 4, False), ("v", 1, 4, False)]
    assert seen == [*first, ("E", 1, 2, False), *second, ("E", 2, 4, True)]


def test_accumulated_batches_make_one_big_batch():
    small = [make_batch(2 * i, 2 * i + 1) for i in range(3)]
    big = Sample(
        torch.cat([batch.input for batch in small]),
        torch.cat([batch.target for batch in small]),
        None,
        torch.arange(6),
    )
    one, three = make_learner(), make_learner()
    start = weights(one)
    (event, *_) = train(one, Plan(1, 1), iter([big]), None, names)
    (summed, *_) = train(three, Plan(1, 3, accumulate=3), iter(small), None, names)
    assert not torch.equal(weights(one), start)
    torch.testing.assert_close(weights(three), weights(one), rtol=1e-12, atol=1e-14)
    assert summed.loss == pytest.approx(event.loss, rel=1e-12)


def test_the_train_loss_is_the_mean_over_the_epochs_batches():
    learner = make_learner(lr=1e-30)
    expected = [
        float((learner.network(batch.input) - batch.target).detach().square().mean())
        for batch in map(make_batch, range(5))
    ]
    _, epochs = run(learner, Plan(2, 5, accumulate=2))
    assert [event.train_loss for event in epochs] == pytest.approx([sum(expected) / 5] * 2)


def test_a_step_is_the_gradient_clipped_to_its_largest_norm():
    learner, reference = make_learner(lr=1.0), make_learner()
    batch = make_batch(0)
    (reference.network(batch.input) - batch.target).square().mean().backward()
    gradient = torch.cat([p.grad.flatten() for p in reference.network.parameters()])
    limit = 0.1 * float(gradient.norm())
    start = weights(learner)
    list(train(learner, Plan(1, 1, gradient_clip=limit), iter([batch]), None, names))
    torch.testing.assert_close(start - weights(learner), 0.1 * gradient, rtol=1e-5, atol=1e-12)


def test_an_epoch_tells_the_mean_norm_of_its_gradients_before_clipping():
    expected = []
    learner = make_learner()
    for number in range(4):
        batch = make_batch(number)
        learner.loss(learner.network(batch.input), batch.target, None).backward()
        gradients = [parameter.grad for parameter in learner.network.parameters()]
        expected.append(float(torch.cat([g.flatten() for g in gradients]).norm()))
        torch.nn.utils.clip_grad_norm_(learner.network.parameters(), 0.01)
        learner.optimizer.step()
        learner.optimizer.zero_grad()
    _, epochs = run(make_learner(), Plan(2, 2, gradient_clip=0.01), endless(4))
    assert epochs[0].gradient_norm == pytest.approx(sum(expected[:2]) / 2)
    assert epochs[1].gradient_norm == pytest.approx(sum(expected[2:]) / 2)


def test_a_gradient_below_the_limit_is_left_as_it_is():
    free, limited = make_learner(), make_learner()
    list(train(free, Plan(1, 1), endless(1), None, names))
    list(train(limited, Plan(1, 1, gradient_clip=1e6), endless(1), None, names))
    assert torch.equal(weights(free), weights(limited))


def test_patience_counts_validations_since_the_best_one():
    learner = make_learner()
    plan = Plan(99, 2, validate_every=2, patience=2)
    letters, epochs = run(learner, plan, validate=scripted([5, 3, 4, 3, 1]))
    assert letters == "ssEssvvE" * 4
    assert [event.improved for event in epochs] == [False, True] * 2 + [False] * 4
    progress = learner.progress
    assert (progress.best_loss, progress.best_epoch, progress.stale) == (3, 4, 2)
    assert progress.finished == "no improvement in 2 validations"


def selecting(values):
    """Validations whose metric has these values, and whose loss always falls."""
    losses, given = iter(range(99, 0, -1)), iter(values)

    def validate():
        yield ImageValidated(0)
        return Validation(float(next(losses)), {"frc": next(given)}, [])

    return validate


def test_a_metric_that_is_selected_decides_and_larger_is_better():
    learner = make_learner()
    plan = Plan(99, 1, patience=2, select="frc")
    _, epochs = run(learner, plan, validate=selecting([0.1, 0.4, 0.3, 0.4]))
    assert [event.improved for event in epochs] == [True, True, False, False]
    progress = learner.progress
    assert (progress.best_loss, progress.best_epoch) == (-0.4, 2)
    assert progress.finished == "no improvement in 2 validations"


def test_a_metric_that_no_image_has_cannot_select():
    with pytest.raises(
        TrainingError, match=r"training.select: frc of the validation images is nan"
    ):
        run(make_learner(), Plan(3, 1, select="frc"), validate=selecting([math.nan]))


def test_without_validation_the_training_loss_decides_what_is_best():
    learner = make_learner(lr=0.01)
    _, epochs = run(learner, Plan(3, 2))
    losses = [event.train_loss for event in epochs]
    assert losses == sorted(losses, reverse=True)
    assert [event.improved for event in epochs] == [True] * 3
    assert (learner.progress.best_loss, learner.progress.best_epoch) == (losses[-1], 3)


def test_time_that_is_used_up_ends_training_within_the_epoch_after_a_last_validation():
    learner = make_learner()
    plan = Plan(99, 4, validate_every=7, max_seconds=3600.0)
    letters = ""
    for event in train(learner, plan, endless(4), scripted([1]), names):
        letters += LETTERS[type(event)]
        if letters == "ssssEs":
            learner.progress.seconds = 3600.0
    assert letters == "ssssEsvvE"
    progress = learner.progress
    assert (progress.epoch, progress.batches) == (1, 5)
    assert progress.finished == "the time limit of 3600 s is reached"


def spoiled(batches, position, value):
    for number, batch in enumerate(batches):
        if number == position:
            batch.target[0, 0, 0, 0] = value
        yield batch


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_the_files_and_keeps_the_weights(value):
    learner = make_learner()
    batches = spoiled((make_batch(2 * i, 2 * i + 1) for i in range(8)), 3, value)
    events = train(learner, Plan(2, 4, accumulate=2), batches, None, names)
    next(events)
    before, progress = weights(learner), copy.copy(learner.progress)
    with pytest.raises(TrainingError) as error:
        next(events)
    message = error.value.message
    assert "the loss is not finite at step 2 (epoch 1)" in message
    assert "file4.tif, file5.tif, file6.tif, file7.tif" in message
    assert "training.learning_rate" in message
    assert torch.equal(weights(learner), before)
    assert learner.progress == progress


def test_a_gradient_that_is_not_finite_stops_likewise():
    def root(output, target, mask):
        return (output - output.detach()).abs().sum().sqrt()  # 0, and its slope is infinite

    learner = make_learner(loss=root)
    before = weights(learner)
    with pytest.raises(TrainingError, match=r"the gradient is not finite at step 1 .* file0.tif"):
        list(train(learner, Plan(1, 1), endless(1), None, names))
    assert torch.equal(weights(learner), before)


def test_an_image_too_small_for_the_network_is_named():
    with pytest.raises(InputError, match=r"file7.tif: dilation 2 is too large"):
        list(train(make_learner(), Plan(1, 1), iter([make_batch(7, size=1)]), None, names))


def test_going_on_from_the_middle_of_an_epoch_gives_the_same_bits():
    plan = Plan(2, 4, accumulate=2)
    whole = make_learner()
    _, expected = run(whole, plan)
    for stop in range(1, 6):
        learner = make_learner()
        events = train(learner, plan, endless(4), None, names)
        before = [next(events) for _ in range(stop)]
        again = make_learner(seed=5)
        again.network.load_state_dict(learner.network.state_dict())
        again.progress = copy.copy(learner.progress)
        rest = itertools.islice(endless(4), learner.progress.batches, None)
        after = list(train(again, plan, rest, None, names))
        assert torch.equal(weights(again), weights(whole))
        assert [event for event in before + after if isinstance(event, EpochDone)] == expected


def test_random_layers_draw_the_same_numbers_after_a_resume():
    draws = []

    def noisy(output, target, mask):
        draws.append(float(torch.rand(())))
        return output.square().mean()

    learner = make_learner(loss=noisy)
    run(learner, Plan(1, 6, seed=3))
    assert len(set(draws)) == 6
    first, draws[:] = draws[:], []
    again = make_learner(loss=noisy)
    again.progress.step = again.progress.batches = 4
    run(again, Plan(1, 6, seed=3))
    assert draws == first[4:]


def test_plateau_hears_of_each_validation():
    learner = make_learner(lr=0.1)
    learner.schedule = Schedule("plateau", learner.optimizer, 1, plateau_patience=1)
    rates = [
        event.learning_rate
        for event in train(learner, Plan(4, 1), endless(1), scripted([1, 1, 1, 1]), names)
        if isinstance(event, StepDone)
    ]
    assert rates == [0.1, 0.1, 0.05, 0.025]


def test_plateau_hears_of_the_training_loss_without_validation():
    losses = iter([1.0, 2.0, 3.0])
    learner = make_learner(lr=0.1, loss=lambda output, *_: output.sum() * 0 + next(losses))
    learner.schedule = Schedule("plateau", learner.optimizer, 1, plateau_patience=1)
    run(learner, Plan(3, 1))
    assert learner.optimizer.param_groups[0]["lr"] == 0.025


def test_memory_that_runs_out_in_a_step_is_explained():
    class Greedy(torch.nn.Linear):
        def forward(self, input):
            raise torch.OutOfMemoryError("CUDA out of memory")

    network = Greedy(1, 1)
    optimizer = SGD(network.parameters(), 0.1)
    schedule = Schedule("constant", optimizer, 1)
    learner = Learner(network, RegressionLoss("L2"), optimizer, schedule, CPU)
    with pytest.raises(TrainingError, match=r"2\.tif: a training step .* set data\.crop, or lower"):
        list(train(learner, Plan(1, 1), iter([make_batch(2)]), None, lambda i: f"{i}.tif"))
