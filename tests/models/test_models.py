"""The classes of the original package: its methods, in 2D and 3D, for both tasks."""

import copy

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from msdtool import ImageDataset, InputError, MSDModel, MSDRegressionModel, MSDSegmentationModel
from msdtool.errors import ModelFileError
from msdtool.predict import Predictor
from msdtool.runs.checkpoint import load_checkpoint
from tests.helpers import LABELS, write_labelled_pairs, write_noisy_pairs

DILATIONS = [1, 2, 3]


def make_model(task="regression", ndim=2, seed=0, **options):
    torch.manual_seed(seed)
    kind = {"regression": MSDRegressionModel, "segmentation": MSDSegmentationModel}[task]
    c_out = 1 if task == "regression" else 3
    return kind(2, c_out, 3, 1, dilations=DILATIONS, ndim=ndim, device="cpu", **options)


def make_batch(task="regression", ndim=2, seed=0, batch=2):
    rng = torch.Generator().manual_seed(seed)
    space = (5, 6, 7)[:ndim]
    input = 3 + torch.rand(batch, 2, *space, generator=rng)
    if task == "regression":
        return input, 50 + 9 * input.mean(1, keepdim=True)
    return input, torch.randint(3, (batch, 1, *space), generator=rng)


def state(model):
    return {name: tensor.clone() for name, tensor in model.net.state_dict().items()}


def expected_loss(task, output, target):
    """In float64 numpy: mean squared error, or mean cross entropy."""
    output, target = output.detach().numpy().astype(np.float64), target.numpy()
    if task == "regression":
        return np.mean((output - target) ** 2)
    shifted = output - output.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return -np.take_along_axis(log_p, target, 1).mean()


both_tasks = pytest.mark.parametrize("task", ["regression", "segmentation"])
both_dims = pytest.mark.parametrize("ndim", [2, 3])


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


def test_l1_is_the_mean_absolute_error():
    model, (input, target) = make_model(loss="L1"), make_batch()
    assert model.forward(input, target).item() == pytest.approx(target.abs().mean().item())
    with pytest.raises(InputError, match="loss is 'L3'; allowed: L1, L2"):
        make_model(loss="L3")


def test_what_is_not_given_is_as_it_was_before():
    model, (input, target) = make_model(), make_batch()
    model.set_input(input)
    model.set_target(target)
    loss = model.forward().item()
    assert model.forward(input).item() == model.forward(target=target).item() == loss
    assert model.forward(target=target + 1).item() != loss


def test_asking_too_early_says_what_to_do():
    with pytest.raises(RuntimeError, match=r"no input or no target; give them to forward\(\)"):
        make_model().forward()
    with pytest.raises(RuntimeError, match="no loss yet"):
        make_model().get_loss()


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


@both_dims
def test_normalization_brings_data_to_mean_0_and_std_1(ndim):
    model = make_model(ndim=ndim)
    batches = [make_batch(ndim=ndim, seed=seed) for seed in range(3)]
    model.set_normalization(batches)
    scaled = torch.cat([model.net.scale_in(input) for input, _ in batches]).transpose(0, 1)
    torch.testing.assert_close(scaled.flatten(1).mean(1), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(scaled.flatten(1).std(1, correction=0), torch.ones(2))
    targets = torch.cat([target for _, target in batches]).double()
    assert model.net.scale_out.bias.item() == pytest.approx(targets.mean().item())
    assert model.net.scale_out.weight.item() == pytest.approx(targets.std(correction=0).item())


def test_normalization_of_a_segmentation_leaves_the_scores_alone():
    model = make_model("segmentation")
    model.set_normalization([make_batch("segmentation")])
    assert model.net.scale_in.bias.any()
    scores = torch.rand(1, 3, 4, 4)
    assert torch.equal(model.net.scale_out(scores), scores)


@both_tasks
def test_no_batches_is_an_error(task):
    model = make_model(task)
    for method in (model.validate, model.set_normalization, lambda b: model.train(b, 1)):
        with pytest.raises(InputError, match="the data loader has no batches"):
            method([])


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


def test_every_call_of_train_shuffles_anew_as_torchs_seed_has_it():
    orders = []
    for _ in range(2):
        loader, model = Shuffled(), make_model()
        for _ in range(3):
            model.train(loader, 1)
        orders.append([tuple(loader.seen[start : start + 8]) for start in (0, 8, 16)])
    assert len(set(orders[0])) == 3
    assert orders[0] == orders[1]


@both_tasks
@both_dims
def test_a_saved_model_goes_on_as_if_nothing_had_happened(tmp_path, task, ndim):
    model, (input, target) = make_model(task, ndim), make_batch(task, ndim)
    model.set_normalization([(input, target)])
    for _ in range(3):
        model.learn(input, target)
    model.save(tmp_path / "model.pt", 7)
    other = make_model(task, ndim, seed=1)
    assert other.load(tmp_path / "model.pt") == 7
    assert torch.equal(other.net(input), model.net(input))
    for twin in (model, other):
        twin.learn(input, target)
    for name, tensor in state(model).items():
        assert torch.equal(state(other)[name], tensor), name


def test_a_saved_model_can_predict(tmp_path):
    model, (input, target) = make_model("segmentation"), make_batch("segmentation")
    for _ in range(3):
        model.learn(input, target)
    model.save(tmp_path / "model.pt", 1)
    predictor = Predictor.load(tmp_path / "model.pt", "cpu")
    output = predictor(input[0])
    torch.testing.assert_close(output, model.net(input[:1])[0].detach())
    assert np.array_equal(predictor.to_image(output)[0], output.argmax(0))


def test_a_network_that_the_command_line_trained_can_be_loaded(regression_run):
    model = MSDRegressionModel(1, 1, 3, 1, dilations=DILATIONS)
    best = regression_run / "checkpoints" / "best.pt"
    assert model.load(best) == load_checkpoint(best)["progress"]["epoch"]
    for name, tensor in load_checkpoint(best)["model"]["state"].items():
        assert torch.equal(state(model)[name], tensor)
    assert model.load(regression_run / "checkpoints" / "last.pt") == 2


def test_labels_survive_loading_and_saving(segmentation_run, tmp_path):
    model = MSDSegmentationModel(1, 3, 3, 1, dilations=DILATIONS)
    model.load(segmentation_run / "checkpoints" / "best.pt")
    model.save(tmp_path / "again.pt", 2)
    assert load_checkpoint(tmp_path / "again.pt")["model"]["labels"] == LABELS


def test_loading_another_network_says_what_differs(tmp_path):
    make_model().save(tmp_path / "model.pt", 1)
    other = MSDRegressionModel(2, 1, 4, 1, dilations=[1, 2], padding="zeros")
    with pytest.raises(InputError) as error:
        other.load(tmp_path / "model.pt")
    for part in (
        "holds another network",
        "depth 3 instead of 4",
        "dilations [1, 2, 3] instead of [1, 2]",
        "padding symmetric instead of zeros",
    ):
        assert part in error.value.message


def test_loading_a_network_for_the_other_task_is_refused(tmp_path):
    MSDRegressionModel(2, 3, 3, 1, dilations=DILATIONS).save(tmp_path / "model.pt", 1)
    with pytest.raises(InputError, match="task regression instead of segmentation"):
        make_model("segmentation").load(tmp_path / "model.pt")


def test_loading_what_is_no_model_is_an_error(tmp_path):
    (tmp_path / "junk.pt").write_bytes(b"junk")
    with pytest.raises(ModelFileError, match="not a checkpoint of msdtool"):
        make_model().load(tmp_path / "junk.pt")


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


def test_parallel_is_refused():
    with pytest.raises(InputError, match="parallel is True; allowed: False"):
        make_model(parallel=True)


def test_print_shows_the_network(capsys):
    make_model().print()
    assert "MSDModule" in capsys.readouterr().out
    assert issubclass(MSDRegressionModel, MSDModel)
