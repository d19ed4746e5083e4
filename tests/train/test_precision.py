"""Precisions of training; 16 bits as CPUs compute them, which users are refused."""

import itertools
import math

import pytest
import torch
from torch.optim import SGD

from msdtool.data import Sample
from msdtool.errors import ConfigError, TrainingError
from msdtool.nn import MSDModule
from msdtool.nn.device import matrix_products
from msdtool.runs.checkpoint import load_checkpoint
from msdtool.train import opening
from msdtool.train.learner import Learner
from msdtool.train.loop import Plan, train
from msdtool.train.losses import RegressionLoss
from msdtool.train.optim import Schedule
from msdtool.train.precision import DTYPES, Precision
from tests.train.running import check_same, finish, open_run

CPU = torch.device("cpu")
FIRST_SCALE = 2.0**16  # of torch's scaler


def make_network():
    torch.manual_seed(0)
    network = MSDModule(1, 1, 3, 1, [1, 2, 3])
    torch.nn.init.normal_(network.final_layer.linear.weight, std=0.3)
    return network


def make_learner(precision, loss):
    network = make_network()
    optimizer = SGD(network.parameters(), 1e-5)
    schedule = Schedule("constant", optimizer, 1)
    return Learner(network, loss, optimizer, schedule, CPU, precision=Precision(precision, CPU))


def batches():
    rng = torch.Generator().manual_seed(1)
    while True:
        input, target = (torch.rand((1, 1, 8, 8), generator=rng) for _ in range(2))
        yield Sample(input, target, None, torch.tensor([7]))


def rounds_to_tf32():
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):  # torch 2.9 and newer
        return matmul.fp32_precision == "tf32"
    return matmul.allow_tf32


@pytest.mark.parametrize("name", ["tf32", "bf16", "fp16"])
def test_a_cpu_is_refused_with_the_reason(config, name):
    message = rf"training\.precision: {name} is for GPUs; got a cpu, .* set it to float32"
    with pytest.raises(ConfigError, match=message):
        open_run(config, f"training.precision={name}", "training.device=cpu")


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_sixteen_bits_compute_the_network_and_return_float32(name):
    network, input = make_network(), next(batches()).input
    output = Precision(name, CPU).output(network, input)
    assert output.dtype == torch.float32
    with torch.no_grad():
        rounded = network.to(DTYPES[name])(input.to(DTYPES[name]))
    assert torch.equal(output, rounded.float())


@pytest.mark.parametrize("name", ["float32", "tf32"])
def test_other_precisions_call_the_network_as_it_is(name):
    network, input = make_network().double(), next(batches()).input.double()
    assert torch.equal(Precision(name, CPU).output(network, input), network(input))


@pytest.mark.parametrize(("name", "is_rounded"), [("tf32", True), ("float32", False)])
def test_forward_and_backward_pass_may_round_to_tf32_and_nothing_else(name, is_rounded):
    seen = []

    def loss(output, target, mask):
        seen.append(rounds_to_tf32())
        output.register_hook(lambda grad: seen.append(rounds_to_tf32()))
        return output.square().mean()

    with matrix_products(tf32=False):
        for _ in train(make_learner(name, loss), Plan(1, 1), batches(), None, str):
            assert not rounds_to_tf32()
    assert seen == [is_rounded] * 2


def test_updates_whose_scaled_gradients_overflow_are_skipped():
    """Gradients of the output near 100: fp16 holds 65,504, but not 65,536 times as much."""
    mean_square = RegressionLoss("L2")
    learner, single = (
        make_learner(name, lambda *of: 1e4 * mean_square(*of)) for name in ("fp16", "float32")
    )
    next(iter(train(single, Plan(1, 1), itertools.repeat(next(batches())), None, str)))
    before = torch.cat([p.detach().flatten().clone() for p in learner.network.parameters()])
    skipped = 0
    for _ in train(learner, Plan(1, 20), itertools.repeat(next(batches())), None, str):
        after = torch.cat([p.detach().flatten() for p in learner.network.parameters()])
        if learner.progress.updates:
            break
        skipped += 1
        assert torch.equal(after, before)
        assert learner.precision.state_dict()["scale"] == FIRST_SCALE / 2**skipped
    assert skipped > 0
    assert learner.progress.step == learner.schedule.updates == skipped + 1
    assert not torch.equal(after, before)
    # That of the one update, without the scale.
    assert learner.progress.norm_sum == pytest.approx(single.progress.norm_sum, rel=0.01)


def test_gradients_that_are_not_finite_at_any_scale_end_training():
    """The square root of 0 has an infinite gradient, and a finite value."""
    learner = make_learner("fp16", lambda output, target, mask: (output * 0).abs().sum().sqrt())
    message = (
        r"the gradient is not finite at step 17 .*the batch of file7\.tif; look .*"
        r"gradient_clip, or training\.precision: bf16$"
    )
    with pytest.raises(TrainingError, match=message):
        list(train(learner, Plan(1, 40), batches(), None, "file{}.tif".format))
    assert learner.precision.state_dict()["scale"] == 1
    assert all(torch.isfinite(weights).all() for weights in learner.network.parameters())


def test_a_loss_that_is_not_finite_ends_training_at_once():
    learner = make_learner("fp16", lambda output, target, mask: output.sum() * math.nan)
    with pytest.raises(TrainingError, match=r"the loss is not finite at step 1 .*file7\.tif"):
        list(train(learner, Plan(1, 40), batches(), None, "file{}.tif".format))


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_a_run_in_sixteen_bits_resumes_bit_for_bit(config, monkeypatch, tmp_path, name):
    monkeypatch.setattr(opening, "check_precision", lambda precision, device: None)
    options = [f"training.precision={name}", "training.checkpoint_every=1.0e-9"]
    whole = finish(open_run(config, *options, f"run.directory={tmp_path / 'whole'}"))
    begun = open_run(config, *options).events()
    for _ in range(6):
        next(begun)
    begun.close()
    resumed = open_run(config, *options, resume=True)
    assert resumed.learner.progress.step == 3
    check_same(finish(resumed), whole)
    scaler = load_checkpoint(whole.last).training.get("scaler")
    assert (scaler is None) == (name == "bf16")
    assert scaler is None or 1 <= scaler["scale"] <= FIRST_SCALE
    single = finish(open_run(config, f"run.directory={tmp_path / 'single'}"))
    (found, expected) = (load_checkpoint(run.last).metrics["train_loss"] for run in (whole, single))
    assert found != expected
    assert found == pytest.approx(expected, rel=0.1)  # an update may be skipped


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, r"^\.scale is None; expected a number above 0"),
        ({"scale": 0.0, "_growth_tracker": 0}, r"^\.scale is 0\.0"),
        ({"scale": math.inf, "_growth_tracker": 0}, r"^\.scale is inf"),
        ({"scale": math.nan, "_growth_tracker": 0}, r"^\.scale is nan"),
        ({"scale": "1", "_growth_tracker": 0}, r"^\.scale is '1'"),
        ({"scale": 1.0}, r"^\._growth_tracker is None; expected a number of updates"),
        ({"scale": 1.0, "_growth_tracker": -1}, r"^\._growth_tracker is -1"),
        ({"scale": 1.0, "_growth_tracker": 2000}, r"^\._growth_tracker is 2000"),
        ({"scale": 1.0, "_growth_tracker": 0.5}, r"^\._growth_tracker is 0\.5"),
    ],
)
def test_a_stored_scale_is_checked(state, message):
    precision = Precision("fp16", CPU)
    with pytest.raises(ValueError, match=message):
        precision.load_state_dict(state)
    assert precision.state_dict() == {"scale": FIRST_SCALE, "_growth_tracker": 0}


def test_a_scale_is_restored_and_refused_where_none_is_used():
    state = {"scale": 512.0, "_growth_tracker": 3}
    precision = Precision("fp16", CPU)
    precision.load_state_dict(state)
    assert precision.state_dict() == state
    with pytest.raises(ValueError, match=r"^ is \{.*; expected nothing with bf16"):
        Precision("bf16", CPU).load_state_dict(state)
