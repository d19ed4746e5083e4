"""Forward, learn, train and validate, in 2D and 3D, for both tasks."""

import copy

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from msdtool import ImageDataset, MSDRegressionModel, MSDSegmentationModel
from tests.helpers import LABELS, write_labelled_pairs, write_noisy_pairs
from tests.models.making import DILATIONS, both_dims, both_tasks, make_batch, make_model, state


def expected_loss(task, output, target):
    """In float64 numpy: mean squared error, or mean cross entropy."""
    output, target = output.detach().numpy().astype(np.float64), target.numpy()
    if task == "regression":
        return np.mean((output - target) ** 2)
    shifted = output - output.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return -np.take_along_axis(log_p, target, 1).mean()


@both_tasks
@both_dims
def test_forward_returns_the_loss_and_keeps_output_and_loss(task, ndim):
    model, (input, target) = make_model(task, ndim), make_batch(task, ndim)
    torch.nn.init.normal_(model.msd.final_layer.linear.weight)
    assert model.get_output() is None
    before = state(model)
    loss = model.forward(input, target)
    output = model.get_output()
    assert output.shape == (2, 1 if task == "regression" else 3, *input.shape[2:])
    assert model.get_loss() == pytest.approx(expected_loss(task, output, target), rel=1e-5)
    assert loss.item() == model.get_loss()
    assert all(torch.equal(before[name], tensor) for name, tensor in state(model).items())


def test_what_is_not_given_is_as_it_was_before():
    model, (input, target) = make_model(), make_batch()
    model.set_input(input)
    model.set_target(target)
    loss = model.forward().item()
    assert model.forward(input).item() == model.forward(target=target).item() == loss
    assert model.forward(target=target + 1).item() != loss


@both_tasks
@both_dims
def test_learning_lowers_the_loss(task, ndim):
    model, (input, target) = make_model(task, ndim), make_batch(task, ndim)
    model.set_normalization([(input, target)])
    model.learn(input, target)
    first = model.get_loss()
    for _ in range(30):
        model.learn()
    assert model.get_loss() < first


def test_learn_is_a_step_of_adam():
    model, (input, target) = make_model(), make_batch()
    torch.nn.init.normal_(model.msd.final_layer.linear.weight)
    twin = copy.deepcopy(model.net)
    (twin(input) - target).square().mean().backward()
    torch.optim.Adam([p for p in twin.parameters() if p.requires_grad], lr=1e-3).step()
    model.learn(input, target)
    for name, tensor in twin.state_dict().items():
        torch.testing.assert_close(model.net.state_dict()[name], tensor)


@both_tasks
def test_validate_is_the_mean_loss_of_the_batches_and_learns_nothing(task):
    model = make_model(task)
    torch.nn.init.normal_(model.msd.final_layer.linear.weight)
    batches = [make_batch(task, seed=seed, batch=seed + 1) for seed in range(3)]
    before = state(model)
    expected = [expected_loss(task, model.net(input), target) for input, target in batches]
    assert model.validate(batches) == pytest.approx(np.mean(expected), rel=1e-5)
    assert all(torch.equal(before[name], tensor) for name, tensor in state(model).items())
    assert model.get_loss() == pytest.approx(expected[-1], rel=1e-5)


def test_training_is_learning_batch_by_batch():
    model, twin = make_model(), make_model()
    batches = [make_batch(seed=seed) for seed in range(3)]
    model.train(batches, 2)
    for input, target in batches * 2:
        twin.learn(input, target)
    for name, tensor in state(twin).items():
        torch.testing.assert_close(state(model)[name], tensor)
    assert model.get_loss() == pytest.approx(twin.get_loss(), rel=1e-5)


class Shuffled:
    """A data loader that shuffles, and notes in which order."""

    def __init__(self):
        self.seen = []
        self.pairs = [make_batch(seed=seed) for seed in range(8)]
        self.loader = DataLoader(range(8), batch_size=None, shuffle=True)

    def __len__(self):
        return 8

    def __iter__(self):
        for number in self.loader:
            self.seen.append(number)
            yield self.pairs[number]


def test_every_call_of_train_shuffles_differently_and_as_torchs_seed_has_it():
    orders = []
    for _ in range(2):
        loader, model = Shuffled(), make_model()
        for _ in range(3):
            model.train(loader, 1)
        orders.append([tuple(loader.seen[start : start + 8]) for start in (0, 8, 16)])
    assert len(set(orders[0])) == 3
    assert orders[0] == orders[1]


@both_tasks
def test_models_train_on_images_from_disk(tmp_path, task):
    if task == "regression":
        pairs, labels = write_noisy_pairs(tmp_path, 4), None
        model = MSDRegressionModel(1, 1, 3, 1, dilations=DILATIONS)
    else:
        pairs, labels = write_labelled_pairs(tmp_path, 4), LABELS
        model = MSDSegmentationModel(1, 3, 3, 1, dilations=DILATIONS)
    dataset = ImageDataset(pairs["input"], pairs["target"], labels=labels)
    loader = DataLoader(dataset, 2, shuffle=True)
    model.set_normalization(loader)
    before = model.validate(loader)
    model.train(loader, 10)
    assert model.validate(loader) < before


def test_masked_pixels_do_not_count():
    model, (input, target) = make_model(), make_batch()
    mask = torch.zeros(2, 1, 5, 6, dtype=torch.bool)
    mask[..., :2] = True
    spoiled = torch.where(mask, target, 1e6)
    assert model.validate([(input, spoiled, mask)]) == model.validate([(input, target, mask)])
    model.set_normalization([(input, spoiled, mask)])
    assert model.net.scale_out.bias.item() == pytest.approx(target[..., :2].mean().item())


class Parts(torch.nn.Module):
    """Divides batches as torch.nn.DataParallel does, on one device."""

    def __init__(self, module, device_ids):
        super().__init__()
        self.module, self.device_ids, self.calls = module, device_ids, 0

    def forward(self, input):
        self.calls += 1
        return torch.cat([self.module(part) for part in input.chunk(len(self.device_ids))])


@both_tasks
def test_parallel_divides_batches_among_the_gpus_and_saves_the_network_itself(
    task, tmp_path, monkeypatch
):
    alone, (input, target) = make_model(task), make_batch(task)
    monkeypatch.setattr("msdtool.models.stored.devices_for", lambda device: [0, 1])
    monkeypatch.setattr(torch.nn, "DataParallel", Parts)
    model = make_model(task, parallel=True)
    assert model.parallel.device_ids == [0, 1]
    for one in (alone, model):
        one.learn(input, target)
        one.train([(input, target)], 2)
        one.validate([(input, target)])
    assert model.parallel.calls == 4
    torch.testing.assert_close(model.get_output(), alone.get_output())
    assert state(model).keys() == state(alone).keys()
    model.save(tmp_path / "model.pt", 2)
    assert alone.load(tmp_path / "model.pt") == 2


def test_parallel_changes_nothing_on_a_cpu():
    model, (input, target) = make_model(parallel=True), make_batch()
    assert model.parallel is model.net
    model.learn(input, target)
