"""Normalisation, and models that are saved and loaded."""

import numpy as np
import pytest
import torch

from msdtool import InputError, MSDModel, MSDRegressionModel, MSDSegmentationModel
from msdtool.errors import ModelFileError
from msdtool.predict import Predictor
from msdtool.runs.checkpoint import load_checkpoint
from tests.helpers import LABELS
from tests.models.making import DILATIONS, both_dims, both_tasks, make_batch, make_model, state


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
@both_dims
def test_a_loaded_model_continues_as_if_nothing_had_happened(tmp_path, task, ndim):
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
    assert model.load(best) == load_checkpoint(best).progress.epoch
    for name, tensor in load_checkpoint(best).model.state.items():
        assert torch.equal(state(model)[name], tensor)
    assert model.load(regression_run / "checkpoints" / "last.pt") == 2


def test_labels_survive_loading_and_saving(segmentation_run, tmp_path):
    model = MSDSegmentationModel(1, 3, 3, 1, dilations=DILATIONS)
    model.load(segmentation_run / "checkpoints" / "best.pt")
    model.save(tmp_path / "again.pt", 2)
    assert load_checkpoint(tmp_path / "again.pt").model.labels == tuple(LABELS)


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


def test_loading_what_is_not_a_model_is_an_error(tmp_path):
    (tmp_path / "junk.pt").write_bytes(b"junk")
    with pytest.raises(ModelFileError, match="not a checkpoint of msdtool"):
        make_model().load(tmp_path / "junk.pt")


def test_a_base_model_normalises_and_has_no_loss(tmp_path):
    model = MSDModel(1, 2, 3, 1, DILATIONS, device="cpu")
    rng = torch.Generator().manual_seed(0)
    input = -10 + 7 * torch.randn(1, 1, 50, 60, generator=rng)
    target = 20 + 3 * torch.randn(1, 2, 50, 60, generator=rng)
    model.set_normalization([(input, target)])
    normalised = model.scale_in(input)
    assert normalised.mean().item() == pytest.approx(0, abs=1e-5)
    assert normalised.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(model.scale_out.bias, target.mean((0, 2, 3)))
    with pytest.raises(RuntimeError, match="the model has no criterion; use MSDRegressionModel"):
        model.forward(input, target)
    model.save(tmp_path / "model.pt", 1)
    assert MSDRegressionModel(1, 2, 3, 1, dilations=DILATIONS).load(tmp_path / "model.pt") == 1


def test_print_shows_the_network(capsys):
    make_model().print()
    assert "MSDModule" in capsys.readouterr().out
    assert issubclass(MSDRegressionModel, MSDModel)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ((), None),
        (("state",), 3),
        (("state", 0, "exp_avg"), torch.ones(99)),
        (("state", 0, "exp_avg_sq"), torch.tensor(float("nan"))),
        (("state", 0), {}),
        (("param_groups",), []),
        (("param_groups", 0, "lr"), "fast"),
        (("param_groups", 0, "params"), [0]),
    ],
)
def test_a_damaged_state_of_the_optimizer_is_refused_and_nothing_is_loaded(tmp_path, keys, value):
    model = MSDRegressionModel(1, 1, 2, 1, device="cpu")
    model.learn(torch.rand(1, 1, 12, 12), torch.rand(1, 1, 12, 12))
    path = tmp_path / "a.pt"
    model.save(path, 1)
    content = torch.load(path, weights_only=True)
    section, place = content["training"], ["optimizer", *keys]
    for key in place[:-1]:
        section = section[key]
    section[place[-1]] = value
    torch.save(content, path)
    other = MSDRegressionModel(1, 1, 2, 1, device="cpu")
    before = {name: tensor.clone() for name, tensor in other.net.state_dict().items()}
    with pytest.raises(ModelFileError, match=r"a.pt: is damaged: training.optimizer"):
        other.load(path)
    assert all(torch.equal(before[name], t) for name, t in other.net.state_dict().items())
