import pytest
import torch

from msdtool.data import Sample
from msdtool.errors import TrainingError
from msdtool.measure.metrics import RegressionMetrics
from msdtool.nn import MSDModule
from msdtool.train.baseline import Baseline
from msdtool.train.losses import RegressionLoss
from msdtool.train.validation import to_device, validation

CPU = torch.device("cpu")
names = "file{}.tif".format


def make_network():
    torch.manual_seed(0)
    network = MSDModule(1, 1, 2, 1, [1, 2]).double()
    torch.nn.init.normal_(network.final_layer.linear.weight, std=0.3)
    return network.train()


def make_batch(index, size=12):
    rng = torch.Generator().manual_seed(1000 + index)
    input, target = (
        torch.rand((1, 1, size, size), generator=rng, dtype=torch.float64) for _ in range(2)
    )
    return Sample(input, target, None, torch.tensor([index]))


def test_validation_measures_each_image_and_learns_nothing():
    network = make_network()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    batches = [make_batch(i, size=12) for i in range(3)]
    steps = validation(
        network, CPU, RegressionLoss("L2"), RegressionMetrics(1.0), iter(batches), names
    )
    events = []
    with pytest.raises(StopIteration) as stop:
        while True:
            events.append(next(steps))
    result = stop.value.value
    expected = [float((network(b.input) - b.target).detach().square().mean()) for b in batches]
    assert [event.index for event in events] == [0, 1, 2]
    assert result.image_losses == pytest.approx(expected)
    assert result.loss == pytest.approx(sum(expected) / 3)
    assert result.metrics["mse"] == pytest.approx(sum(expected) / 3)
    assert all(map(torch.equal, network.parameters(), before))
    assert all(p.grad is None for p in network.parameters())


def test_doing_nothing_is_measured_once():
    batches = [make_batch(number) for number in range(2)]
    baseline = Baseline([], [], 1.0)
    found = []
    for shown in (batches, batches[:1]):
        steps = validation(
            make_network(), CPU, RegressionLoss("L2"), RegressionMetrics(1.0), iter(shown), names,
            baseline,
        )  # fmt: skip
        with pytest.raises(StopIteration) as stop:
            while True:
                next(steps)
        found.append(stop.value.value.baseline)
    mse = [float((batch.input - batch.target).square().mean()) for batch in batches]
    psnr = sum(-10 * torch.log10(torch.tensor(mse, dtype=torch.float64))) / 2
    assert found[0]["psnr"] == pytest.approx(float(psnr))
    assert found[1] == found[0]


def test_memory_that_runs_out_is_explained():
    class Greedy(torch.nn.Module):
        def forward(self, input):
            raise torch.OutOfMemoryError("CUDA out of memory")

    steps = validation(
        Greedy(), CPU, RegressionLoss("L2"), RegressionMetrics(1.0), iter([make_batch(3)]), names
    )
    with pytest.raises(TrainingError) as error:
        list(steps)
    assert error.value.message == (
        "file3.tif: validating an image of shape (1, 12, 12) does not fit in memory; "
        "set data.validation.patch"
    )


def test_nobody_waits_until_a_batch_is_on_its_device(monkeypatch):
    copies, own = [], torch.Tensor.to

    def to(tensor, device, *, non_blocking):
        copies.append(non_blocking)
        return own(tensor, device)

    levels = torch.ones(1, 2, 1)
    batch = make_batch(7)._replace(mask=torch.ones(1, 1, 12, 12), levels=levels)
    monkeypatch.setattr(torch.Tensor, "to", to)
    moved = to_device(batch, torch.device("meta"))
    assert copies == [True] * 4
    assert {tensor.device.type for tensor in (*moved[:3], moved.levels)} == {"meta"}
    assert moved.indices is batch.indices and moved.target_levels is None
