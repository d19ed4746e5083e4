import pytest
import torch

from msdtool.train.averaging import WeightAverage


def network(value):
    module = torch.nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(value)
    return module


def test_recent_weights_count_more():
    average = WeightAverage(network(100.0), 0.75)
    for value in (8.0, 4.0, 0.0):
        average.add(network(value))
    # The network before its first update does not count.
    assert average.network.weight.item() == pytest.approx(0.75 * (0.75 * 8 + 0.25 * 4))
    assert average.updates == 3


def test_the_networks_own_weights_stay():
    trained = network(8.0)
    average = WeightAverage(trained, 0.5)
    average.add(network(2.0))
    assert trained.weight.item() == 8.0


def test_running_statistics_are_the_networks_own():
    norm = torch.nn.BatchNorm1d(2)
    average = WeightAverage(norm, 0.5)
    norm(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    average.add(norm)
    assert torch.equal(average.network.running_mean, norm.running_mean)


def test_an_average_resumes_from_its_saved_state():
    values = [8.0, 4.0, 6.0]
    whole = WeightAverage(network(1.0), 0.75)
    first, second = WeightAverage(network(1.0), 0.75), WeightAverage(network(5.0), 0.75)
    for value in values:
        whole.add(network(value))
    first.add(network(values[0]))
    second.load(first.network.state_dict(), first.updates)
    for value in values[1:]:
        second.add(network(value))
    assert second.network.weight.item() == whole.network.weight.item()
