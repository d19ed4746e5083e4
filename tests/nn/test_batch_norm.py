import pytest
import torch
import torch.distributed as dist
from torch import nn

from msdtool.nn import encoding
from msdtool.nn.encoding import DistSyncBatchNorm, SyncBatchNorm
from tests import forked
from tests.golden import Case


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def formula(x, weight, bias, eps=1e-5):
    """Batch normalisation from its definition, with the mean and the biased variance."""
    axes = [0, *range(2, x.dim())]
    shape = [1, -1, *(1,) * (x.dim() - 2)]
    mean, variance = x.mean(axes), x.var(axes, correction=0)
    normalised = (x - mean.reshape(shape)) / (variance.reshape(shape) + eps).sqrt()
    return normalised * weight.reshape(shape) + bias.reshape(shape), mean, variance


# One process ----------------------------------------------------------------------------------


@pytest.mark.parametrize("layer_class", [SyncBatchNorm, DistSyncBatchNorm])
def test_without_momentum_the_running_statistics_are_the_mean_of_all_batches(layer_class):
    layer = layer_class(2, momentum=None).double()
    batches = [random(2, 2, 5) + shift for shift in range(3)]
    for batch in batches:
        layer(batch)
    means = torch.stack([batch.mean((0, 2)) for batch in batches]).mean(0)
    variances = torch.stack([batch.var((0, 2), correction=0) for batch in batches]).mean(0)
    torch.testing.assert_close(layer.running_mean, means)
    torch.testing.assert_close(layer.running_var, variances)
    assert layer.num_batches_tracked == 3


@pytest.mark.parametrize("layer_class", [SyncBatchNorm, DistSyncBatchNorm])
@pytest.mark.parametrize("name", ["SyncBatchNorm_train_one_device", "SyncBatchNorm_eval"])
def test_values_gradients_and_running_statistics_are_the_originals(name, layer_class):
    case = Case("encoding", name)
    layer = layer_class(*case.args, **case.kwargs).double()
    layer.load_state_dict(case.state())
    layer.train(case.description["call"]["mode"] == "train")
    input = case["in.0"].requires_grad_()
    output = layer(input)
    case.assert_close(output, "out.0")
    output.backward(case["gy.0"])
    case.check_gradients(layer, input)
    for key, buffer in layer.named_buffers():
        case.assert_close(buffer, f"after.{key}")


@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 5), (2, 3, 4, 5), (2, 3, 2, 3, 4)])
def test_any_number_of_axes_is_normalised(shape):
    layer, x = SyncBatchNorm(3).double(), random(*shape)
    expected, mean, variance = formula(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.running_mean, 0.1 * mean)
    torch.testing.assert_close(layer.running_var, 0.9 + 0.1 * variance)


def test_a_large_mean_does_not_spoil_the_variance():
    x = random(4, 2, 20, 20).float() + 1000
    layer = SyncBatchNorm(2)
    expected, _, variance = formula(x.double(), *(p.double() for p in layer.parameters()))
    torch.testing.assert_close(layer(x).double(), expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(layer.running_var.double(), 0.9 + 0.1 * variance, rtol=1e-5, atol=0)


@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_the_activation_follows_in_training_and_evaluation(training, inplace):
    layer = SyncBatchNorm(3, activation="leaky_relu", slope=0.2, inplace=inplace).double()
    plain = SyncBatchNorm(3).double()
    x = random(2, 3, 4, 5)
    layer.train(training), plain.train(training)
    expected = nn.functional.leaky_relu(plain(x), 0.2)
    torch.testing.assert_close(layer(x), expected)
    assert (layer(x) < 0).any()
    input = x.clone().requires_grad_()
    assert torch.autograd.gradcheck(layer, [input])


def test_a_layer_tells_its_arguments():
    text = repr(SyncBatchNorm(3, sync=False, activation="leaky_relu", slope=0.2, inplace=False))
    for part in ("3, eps=1e-05", "sync=False", "act=leaky_relu", "slope=0.2", "inplace=False"):
        assert part in text


@pytest.mark.parametrize("name", ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d"])
def test_old_names_warn_and_work(name):
    with pytest.warns(DeprecationWarning, match=rf"encoding\.nn\.{name} is now deprecated"):
        layer = getattr(encoding, name)(3, activation="leaky_relu")
    assert isinstance(layer, SyncBatchNorm)
    assert layer(random(2, 3, 4).float()).shape == (2, 3, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation": "relu"}, "activation is 'relu'; allowed: none, leaky_relu"),
        ({"slope": -1.0}, "slope is -1.0; expected 0 or more"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        SyncBatchNorm(3, **arguments)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 1, 1), "Expected more than 1 value per channel when training, got input of shape"),
        ((2, 4, 5, 5), r"input has shape \(2, 4, 5, 5\); expected \[B, 3, \*space\]"),
        ((3,), r"input has shape \(3,\); expected \[B, 3, \*space\]"),
    ],
)
def test_inputs_that_cannot_be_normalised_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        DistSyncBatchNorm(3)(torch.ones(shape))


# Two processes --------------------------------------------------------------------------------

UNEVEN = [(1, 5), (4, 0), (0, 2)]
"""Images of the two processes."""


def in_two_processes(work, tmp_path):
    """Call ``work(rank)`` in two processes of a group; return what each returned."""
    context = forked.context()
    arguments = (work, str(tmp_path))
    processes = [context.Process(target=_process, args=(rank, *arguments)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(tmp_path / f"result{rank}") for rank in range(2)]


def _process(rank, work, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    try:
        torch.save(work(rank), f"{folder}/result{rank}")
    finally:
        dist.destroy_process_group()


def _run(layer, input, weights):
    input.requires_grad_()
    output = layer(input)
    output.backward(weights)
    return {
        "out.0": output.detach(),
        "grad.in.0": input.grad,
        "grad.param.weight": layer.weight.grad,
        "grad.param.bias": layer.bias.grad,
        "after.running_mean": layer.running_mean,
        "after.running_var": layer.running_var,
    }


def _uneven_data(sizes):
    return random(sum(sizes), 3, 4, 5) * 2 + 30, random(sum(sizes), 3, 4, 5, seed=1)


def _new_layer(layer_class=DistSyncBatchNorm):
    layer = layer_class(3).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.5, -0.5, 0.7]))
        layer.bias.copy_(torch.tensor([0.1, 0.2, -0.3]))
    return layer


def _work(rank):
    """All cases in one pair of processes: starting them takes longest."""
    case = Case("encoding", "DistSyncBatchNorm_world2")
    layer = DistSyncBatchNorm(3).double()
    layer.load_state_dict(case.state(), strict=False)
    results = {
        "golden": _run(layer, case[f"rank{rank}.in.0"], case[f"rank{rank}.gy.0"]),
        "uneven": [],
    }
    for sizes in UNEVEN:
        parts = [tensor.split(sizes)[rank].clone() for tensor in _uneven_data(sizes)]
        results["uneven"].append(_run(_new_layer(SyncBatchNorm), *parts))
    unsynchronised = SyncBatchNorm(3, sync=False).double()
    own = random(2, 3, 4, seed=rank)
    results["alone"] = unsynchronised(own).detach()
    group = dist.new_group([0, 1])
    results["group"] = DistSyncBatchNorm(3, process_group=group).double()(own).detach()
    half = random(2, 3, 4, seed=rank).bfloat16()
    results["bfloat16"] = DistSyncBatchNorm(3)(half).detach()
    try:
        DistSyncBatchNorm(3)(torch.ones(1 - rank, 3, 1))
    except ValueError as error:
        results["error"] = str(error)
    return results


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    return in_two_processes(_work, tmp_path_factory.mktemp("processes"))


def test_two_processes_give_the_originals_numbers(two_processes):
    case = Case("encoding", "DistSyncBatchNorm_world2")
    for rank, results in enumerate(two_processes):
        for key, found in results["golden"].items():
            case.assert_close(found, f"rank{rank}.{key}")


@pytest.mark.parametrize("number", range(len(UNEVEN)))
def test_two_processes_with_uneven_batches_equal_one_with_all_images(two_processes, number):
    ranks = [results["uneven"][number] for results in two_processes]
    x, weights = _uneven_data(UNEVEN[number])
    x.requires_grad_()
    layer = _new_layer()
    output, mean, variance = formula(x, layer.weight, layer.bias)
    output.backward(weights)
    for key, expected in (("out.0", output), ("grad.in.0", x.grad)):
        torch.testing.assert_close(torch.cat([rank[key] for rank in ranks]), expected.detach())
    for name, parameter in layer.named_parameters():
        total = sum(rank[f"grad.param.{name}"] for rank in ranks)
        torch.testing.assert_close(total, parameter.grad)
    for rank in ranks:
        torch.testing.assert_close(rank["after.running_mean"], 0.1 * mean.detach())
        torch.testing.assert_close(rank["after.running_var"], 0.9 + 0.1 * variance.detach())


def test_a_group_is_normalised_together_and_sync_false_each_by_itself(two_processes):
    own = [random(2, 3, 4, seed=rank) for rank in range(2)]
    ones, zeros = torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for rank, results in enumerate(two_processes):
        torch.testing.assert_close(results["alone"], formula(own[rank], ones, zeros)[0])
    together = formula(torch.cat(own), ones, zeros)[0]
    torch.testing.assert_close(torch.cat([r["group"] for r in two_processes]), together)
    found = torch.cat([r["bfloat16"] for r in two_processes])
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), together, rtol=0.02, atol=0.02)


def test_one_value_of_all_processes_is_refused_by_each(two_processes):
    for results in two_processes:
        assert "Expected more than 1 value per channel" in results["error"]
