import math
from copy import deepcopy

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


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_an_update_is_that_of_torch_bit_for_bit(name, kind):
    start, gradients = torch.randn(7), torch.randn(4, 7)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    opt = build_optimizer(name, [ours], 0.1, 0.01)
    expected = kind([theirs], lr=0.1, weight_decay=0.01)
    for gradient in gradients:
        for parameter, optimizer in ((ours, opt), (theirs, expected)):
            optimizer.zero_grad()
            assert parameter.grad is None
            parameter.grad = gradient.clone()
            optimizer.step()
        opt = build_optimizer(name, [ours], 1.0, 0.0)
        opt.load_state_dict(deepcopy(expected.state_dict()))  # loaded tensors are shared
    assert torch.equal(ours, theirs)
    assert opt.state_dict()["param_groups"] == expected.state_dict()["param_groups"]


def test_a_constant_rate_stays():
    opt = optimizer()
    schedule = Schedule("constant", opt, 10)
    schedule.after_validation(5.0)
    assert rates(opt, schedule, 12) == [0.1] * 12


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


def test_the_rate_rises_linearly_over_the_warm_up():
    opt = optimizer()
    found = rates(opt, Schedule("constant", opt, 100, warmup=4), 6)
    assert found == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1])


def test_the_warm_up_takes_a_tenth_of_all_updates_at_most():
    opt = optimizer()
    found = rates(opt, Schedule("cosine", opt, 20, warmup=50), 4)
    cosine = [0.05 * (1 + math.cos(math.pi * k / 20)) for k in range(4)]
    assert found == pytest.approx([cosine[0] / 3, cosine[1] * 2 / 3, cosine[2], cosine[3]])


def test_plateau_halves_the_rate_during_the_warm_up_too():
    opt = optimizer()
    schedule = Schedule("plateau", opt, 100, plateau_patience=1, warmup=4)
    for loss in (1, 1):
        schedule.after_validation(loss)
    assert rates(opt, schedule, 5) == pytest.approx([0.01, 0.02, 0.03, 0.04, 0.05])


@pytest.mark.parametrize(
    ("name", "saved", "expected"),
    [
        ("constant", {}, 0.03),
        ("cosine", {"base_lrs": [0.1], "last_epoch": 5, "_step_count": 6}, 0.05),
        ("plateau", {"best": 2.0, "num_bad_epochs": 1, "last_epoch": 3, "factor": 0.5}, 0.03),
    ],
)
def test_a_schedule_resumes_from_what_versions_without_warm_up_saved(name, saved, expected):
    opt = optimizer()
    schedule = Schedule(name, opt, 10, plateau_patience=1)
    opt.param_groups[0]["lr"] = 0.03  # as the optimizer's own state restores it
    schedule.load_state_dict(saved)
    assert rate(opt) == pytest.approx(expected)
    schedule.after_validation(2.0)
    assert rate(opt) == pytest.approx(expected / 2 if name == "plateau" else expected)


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("name", ["constant", "cosine", "plateau"])
@pytest.mark.parametrize("stop", [0, 1, 3, 7])
def test_a_schedule_resumes_from_its_saved_state(name, stop, warmup):
    losses = [3, 2, 2, 2, 2, 1, 1, 1, 1, 1]

    def go(opt, schedule, span):
        found = []
        for update in span:
            found += rates(opt, schedule, 1)
            schedule.after_validation(losses[update])
        return found

    whole = optimizer()
    expected = go(whole, Schedule(name, whole, 30, 1, warmup), range(10))
    first = optimizer()
    before = Schedule(name, first, 30, 1, warmup)
    found = go(first, before, range(stop))
    second = optimizer()
    after = Schedule(name, second, 30, 1, warmup)
    second.load_state_dict(first.state_dict())
    after.load_state_dict(before.state_dict())
    assert found + go(second, after, range(stop, 10)) == expected
