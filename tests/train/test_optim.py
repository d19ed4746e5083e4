import math

import pytest
import torch

from msdtool.train.optim import Schedule, build_optimizer


def optimizer(name="adam", lr=0.1, weight_decay=0.0):
    parameter = torch.nn.Parameter(torch.ones(1))
    fixed = torch.nn.Parameter(torch.ones(1), requires_grad=False)
    return build_optimizer(name, [parameter, fixed], lr, weight_decay)


def rate(opt):
    return opt.param_groups[0]["lr"]


def rates(opt, schedule, updates):
    """The learning rate of each of the coming updates."""
    found = []
    for _ in range(updates):
        found.append(rate(opt))
        opt.step()
        schedule.after_update()
    return found


def test_only_what_is_trained_is_optimized():
    assert [len(group["params"]) for group in optimizer().param_groups] == [1]


@pytest.mark.parametrize(("name", "decay_term"), [("adam", 0.0), ("adamw", 0.1 * 0.5)])
def test_weight_decay_is_decoupled_for_adamw_alone(name, decay_term):
    opt = optimizer(name, lr=0.1, weight_decay=0.5)
    (parameter,) = opt.param_groups[0]["params"]
    parameter.grad = torch.tensor([2.0])
    opt.step()
    # Adam's first step is lr * sign(gradient), the L2 penalty being part of the gradient.
    assert parameter.item() == pytest.approx(1 - decay_term - 0.1, abs=1e-6)


def test_a_constant_rate_stays():
    opt = optimizer()
    schedule = Schedule("constant", opt, 10)
    schedule.after_validation(5.0)
    assert rates(opt, schedule, 12) == [0.1] * 12
    assert schedule.state_dict() == {}


def test_cosine_falls_from_the_rate_to_zero_at_the_last_update():
    opt = optimizer()
    found = rates(opt, Schedule("cosine", opt, 10), 13)
    expected = [0.05 * (1 + math.cos(math.pi * min(k / 10, 1))) for k in range(13)]
    assert found == pytest.approx(expected)
    assert found[10:] == pytest.approx([0, 0, 0])


def test_plateau_halves_the_rate_after_validations_without_improvement():
    opt = optimizer()
    schedule = Schedule("plateau", opt, 10, plateau_patience=2)
    found = []
    for loss in [3, 2, 2, 2, 2, 1, 1, 1, 1]:
        schedule.after_validation(loss)
        found.append(rate(opt))
    # The second validation in a row that is no better halves it.
    assert found == [0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.025, 0.025]


def test_cosine_takes_on_a_later_end_at_once():
    short, longer = optimizer(), optimizer()
    before = Schedule("cosine", short, 4)
    rates(short, before, 4)
    assert rate(short) == 0
    after = Schedule("cosine", longer, 8)
    longer.load_state_dict(short.state_dict())
    after.load_state_dict(before.state_dict())
    assert rate(longer) == pytest.approx(0.1 * 0.5)  # half way of eight


@pytest.mark.parametrize("name", ["constant", "cosine", "plateau"])
@pytest.mark.parametrize("stop", [0, 3, 7])
def test_a_schedule_goes_on_from_its_saved_state(name, stop):
    losses = [3, 2, 2, 2, 2, 1, 1, 1, 1, 1]

    def go(opt, schedule, span):
        found = []
        for update in span:
            found += rates(opt, schedule, 1)
            schedule.after_validation(losses[update])
        return found

    whole = optimizer()
    expected = go(whole, Schedule(name, whole, 10, 1), range(10))
    first = optimizer()
    before = Schedule(name, first, 10, 1)
    found = go(first, before, range(stop))
    second = optimizer()
    after = Schedule(name, second, 10, 1)
    second.load_state_dict(first.state_dict())
    after.load_state_dict(before.state_dict())
    assert found + go(second, after, range(stop, 10)) == expected
