"""Several processes make the steps of one: losses, gradients, statistics."""

import itertools
import math

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD

from msdtool.data import IGNORED, Sample
from msdtool.data.loaders import DummyBatch, Shard, _without_effect
from msdtool.errors import FailedElsewhere, TrainingError
from msdtool.nn import MSDBlock2d, MSDModule
from msdtool.train.image_losses import (
    EdgeLoss,
    FourierLoss,
    HardestSquaresLoss,
    MultiScaleSSIMLoss,
    TotalVariationLoss,
)
from msdtool.train.label_losses import BoundaryLoss, FocalLoss, HardestEntropyLoss, TverskyLoss
from msdtool.train.learner import Learner
from msdtool.train.loop import Plan, train
from msdtool.train.losses import (
    CrossEntropyLoss,
    DiceLoss,
    GramLoss,
    IntervalLoss,
    RegressionLoss,
    SSIMLoss,
    WeightedSum,
)
from msdtool.train.optim import Schedule
from msdtool.train.processes import ALONE

CPU = torch.device("cpu")


def make_samples(count, size, *, labels=0, masked=False):
    """Images with targets, of which not all pixels count and in no two images as many."""
    rng = torch.Generator().manual_seed(5)
    samples = []
    for index in range(count):
        shape = (1, 1, size, size)
        input = torch.rand(shape, generator=rng, dtype=torch.float64)
        counts = torch.rand(shape, generator=rng) < (index + 1) / (count + 1)
        target, mask = 3 * input + torch.rand(shape, generator=rng), counts if masked else None
        if labels:
            target = torch.randint(0, labels, shape, generator=rng)
            target, mask = torch.where(counts, target, IGNORED), None
        samples.append(Sample(input, target, mask, torch.tensor([index])))
    return samples


def join(samples):
    first, *_ = samples
    return Sample(
        torch.cat([sample.input for sample in samples]),
        torch.cat([sample.target for sample in samples]),
        None if first.mask is None else torch.cat([sample.mask for sample in samples]),
        torch.cat([sample.indices for sample in samples]),
    )


LOSSES = {
    "L2": (lambda total: RegressionLoss("L2", [2.0], total=total), {}),
    "masked Huber": (lambda total: RegressionLoss("Huber", total=total), {"masked": True}),
    "masked SSIM mix": (
        lambda total: WeightedSum(
            [(0.16, RegressionLoss("L1", total=total)), (0.84, SSIMLoss(4.0, total=total))]
        ),
        {"masked": True},
    ),
    "masked MS-SSIM": (
        lambda total: MultiScaleSSIMLoss(4.0, 1, total=total),
        {"masked": True},
    ),
    "masked edges, frequencies, variation and hard pixels": (
        lambda total: WeightedSum(
            [
                (1.0, EdgeLoss([2.0], total=total)),
                (0.5, FourierLoss([2.0], total=total)),
                (0.1, TotalVariationLoss([2.0], total=total)),
                (1.0, HardestSquaresLoss([2.0], 0.3, total=total)),
            ]
        ),
        {"masked": True},
    ),
    "masked interval": (
        lambda total: IntervalLoss(RegressionLoss("L2", total=total), 0.8, [2.0], total=total),
        {"masked": True, "outputs": 3},
    ),
    "Gram": (lambda total: GramLoss([0.0], [1.0], 2, total=total), {"masked": True}),
    "weighted": (lambda total: CrossEntropyLoss([1.0, 2.0, 0.5], total=total), {"labels": 3}),
    "dice": (
        lambda total: WeightedSum(
            [(1.0, CrossEntropyLoss(total=total)), (1.0, DiceLoss(total=total))]
        ),
        {"labels": 3},
    ),
    "rare labels, boundaries and hard pixels": (
        lambda total: WeightedSum(
            [
                (1.0, FocalLoss(2.0, [1.0, 2.0, 0.5], total=total)),
                (1.0, TverskyLoss(total=total)),
                (0.3, BoundaryLoss(total=total)),
                (0.1, TotalVariationLoss(labels=True, total=total)),
                (0.5, HardestEntropyLoss(0.3, total=total)),
            ]
        ),
        {"labels": 3},
    ),
}


def train_batches(processes, name, batches, accumulate, freeze=False, poison=None):
    """Train on batches of sample numbers; return the weights and losses."""
    make_loss, kind = LOSSES[name]
    outputs = kind.get("outputs", kind.get("labels", 1))
    samples = make_samples(7, 12, **{k: v for k, v in kind.items() if k != "outputs"})
    if poison is not None:
        samples[poison].input[0, 0, 3, 3] = math.nan
    torch.manual_seed(0)
    network = MSDModule(1, outputs, 3, 2, [1, 2, 3]).double()
    torch.nn.init.normal_(network.final_layer.linear.weight, std=0.3)
    if freeze:
        network.msd_block.weight1.requires_grad_(False)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = SGD(trained, 0.05)
    learner = Learner(
        network,
        make_loss(processes.total),
        optimizer,
        Schedule("constant", optimizer, 1),
        CPU,
        processes=processes,
    )
    shares = Shard(batches, processes.rank, processes.size)

    def load():
        for share in shares:
            batch = join([samples[index] for index in share])
            yield _without_effect(batch) if isinstance(share, DummyBatch) else batch

    plan = Plan(1, len(batches), accumulate=accumulate, gradient_clip=1.0)
    events = train(learner, plan, load(), None, "file{}.tif".format)
    losses = [event.loss for event in itertools.islice(events, -(-len(batches) // accumulate))]
    return losses, [parameter.detach().clone() for parameter in network.parameters()]


BATCHES = [[0, 1, 2], [3, 4], [5], [6, 0, 1, 2]]


@pytest.mark.parametrize("name", LOSSES)
def test_two_processes_make_the_steps_of_one(team, name):
    """Shares of unequal size, an empty one, pixels that do not count, accumulated gradients."""
    for accumulate in (1, 3):
        losses, weights = train_batches(ALONE, name, BATCHES, accumulate)
        assert len(set(losses)) == len(losses)
        for found_losses, found in team(train_batches, name, BATCHES, accumulate):
            assert found_losses == pytest.approx(losses, rel=1e-11)
            torch.testing.assert_close(found, weights, rtol=1e-10, atol=1e-12)


def normalised_steps(processes, affine, momentum):
    """Train a network with a batch norm on batches of 3; return its state and an output."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3),
        torch.nn.Sequential(torch.nn.BatchNorm2d(4, momentum=momentum, affine=affine)),
        torch.nn.ReLU(),
        torch.nn.Conv2d(4, 1, 1),
    ).double()
    processes.unite(network)
    optimizer = SGD(network.parameters(), 0.1)
    loss = RegressionLoss("L2", total=processes.total)
    rng = torch.Generator().manual_seed(1)
    for _ in range(3):
        input = torch.rand(3, 1, 7, 6, generator=rng, dtype=torch.float64)
        share = input[processes.rank :: processes.size]
        optimizer.zero_grad()
        loss(network(share), share[..., 1:-1, 1:-1].square()).backward()
        processes.average_gradients(network)
        optimizer.step()
    network.eval()
    return network.state_dict(), network(input).detach()


@pytest.mark.parametrize(("affine", "momentum"), [(True, 0.1), (False, None)])
def test_statistics_of_batch_norms_are_those_of_all_processes(team, affine, momentum):
    state, output = normalised_steps(ALONE, affine, momentum)
    for found_state, found in team(normalised_steps, affine, momentum):
        assert found_state.keys() == state.keys()
        for key, value in state.items():
            torch.testing.assert_close(found_state[key], value, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(found, output, rtol=1e-10, atol=1e-12)


def test_frozen_layers_are_left_alone(team):
    losses, weights = train_batches(ALONE, "L2", BATCHES, 1, freeze=True)
    for found_losses, found in team(train_batches, "L2", BATCHES, 1, True):
        assert found_losses == pytest.approx(losses, rel=1e-11)
        torch.testing.assert_close(found, weights, rtol=1e-10, atol=1e-12)


def test_a_loss_that_is_not_finite_stops_all_and_the_whole_batch_is_named(team):
    main, other = team(train_batches, "L2", BATCHES, 1, False, 1)
    assert isinstance(main, TrainingError)
    assert "the loss is not finite at step 1 (epoch 1), in the batch of file0.tif, file2.tif, " in (
        main.message
    )
    assert "file1.tif" in main.message
    assert isinstance(other, FailedElsewhere)


def wrapped_gradients(processes):
    """The gradients of two steps of several networks in torch's own wrapper.

    Its buckets change in between.
    """
    return [
        two_steps(processes, module, static_graph)
        for module in ("block", "module")
        for static_graph in (False, True)
    ]


def two_steps(processes, module, static_graph):
    torch.manual_seed(0)
    if module == "block":
        network = torch.nn.Sequential(MSDBlock2d(2, [1, 2, 3], 2), torch.nn.Conv2d(8, 1, 1))
    else:
        network = MSDModule(2, 1, 3, 2, [1, 2, 3])
        torch.nn.init.normal_(network.final_layer.linear.weight)
    network = network.double()
    wrapped = network
    if processes.size > 1:
        wrapped = DistributedDataParallel(network, static_graph=static_graph)
    rng = torch.Generator().manual_seed(1)
    for _ in range(2):
        network.zero_grad()
        input = torch.rand(2, 2, 9, 8, generator=rng, dtype=torch.float64)
        share = input[processes.rank :: processes.size]
        wrapped(share).square().mean().backward()
    return [parameter.grad for parameter in network.parameters()]


def test_gradients_of_a_block_that_computes_in_place_are_averaged(team):
    expected = wrapped_gradients(ALONE)
    for found in team(wrapped_gradients):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)
