"""CUDA graphs, with stand-ins for torch's where there is no GPU."""

import pytest
import torch

from msdtool.nn import MSDModule, graphs
from msdtool.nn.graphs import GraphedNetwork


@pytest.fixture
def captured(monkeypatch):
    """What was captured: for training or not, and the shape; graphs call what they were made of."""
    found = []

    def make(trains):
        def capture(network, sample):
            found.append((trains, tuple(sample.shape)))
            return network.forward

        return capture

    monkeypatch.setattr(graphs, "_capture_training", make(True))
    monkeypatch.setattr(graphs, "_capture_inference", make(False))
    return found


@pytest.fixture
def network():
    network = MSDModule(1, 1, depth=3, width=1)
    torch.nn.init.normal_(network.final_layer.linear.weight)
    return network


def test_each_shape_is_captured_once(captured, network):
    graphed = GraphedNetwork(network)
    for size in (12, 12, 13, 12):
        image = torch.randn(1, 1, size, 12)
        assert torch.equal(graphed(image), network(image))
    with torch.no_grad():
        graphed(torch.randn(1, 1, 12, 12))
    assert captured == [(True, (1, 1, 12, 12)), (True, (1, 1, 13, 12)), (False, (1, 1, 12, 12))]


def test_only_so_many_graphs_are_kept(captured, network, monkeypatch):
    monkeypatch.setattr(graphs, "MAX_GRAPHS", 2)
    graphed = GraphedNetwork(network)
    for size in (12, 13, 14, 12):
        assert graphed(torch.randn(1, 1, size, 12)).shape == (1, 1, size, 12)
    assert len(captured) == 2


def test_graphs_of_shapes_that_may_not_come_again_can_wait(captured, network):
    graphed = GraphedNetwork(network, calls_before=2)
    counts = []
    with torch.no_grad():
        for size in (12, 13, 12, 12, 12):
            image = torch.randn(1, 1, size, 12)
            assert torch.equal(graphed(image), network(image))
            counts.append(len(captured))
    assert counts == [0, 0, 0, 1, 1]
    assert captured == [(False, (1, 1, 12, 12))]


def test_without_memory_for_a_graph_the_network_is_called(network, monkeypatch):
    tried = []

    def capture(network, sample):
        tried.append(tuple(sample.shape))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(graphs, "_capture_training", capture)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: tried.append("emptied"))
    graphed = GraphedNetwork(network)
    for _ in range(2):
        image = torch.randn(1, 1, 12, 12)
        assert torch.equal(graphed(image), network(image))
    assert tried == [(1, 1, 12, 12), "emptied"]


def test_a_gradient_by_the_input_takes_the_network_itself(captured, network):
    image = torch.randn(1, 1, 12, 12, requires_grad=True)
    GraphedNetwork(network)(image).sum().backward()
    assert image.grad is not None
    assert captured == []


def test_a_graph_for_training_is_made_of_a_module_of_its_own(network, monkeypatch):
    def make(module, sample, num_warmup_iters):
        assert list(module.parameters()) == list(network.parameters())
        assert sample[0].count_nonzero() == 0
        module.forward = None  # torch replaces it
        return torch.negative

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", make)
    image = torch.randn(1, 1, 12, 12)
    assert torch.equal(GraphedNetwork(network)(image), -image)
    assert network(image).shape == image.shape


def test_captures_bear_that_other_threads_call_cuda(network, monkeypatch):
    modes = []

    class Graph:
        def __init__(self, graph, *, capture_error_mode="global"):
            modes.append(capture_error_mode)

    def make(module, sample, num_warmup_iters):
        torch.cuda.graph(None)
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(torch.cuda, "graph", Graph)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", make)
    with pytest.raises(RuntimeError, match="out of memory"):
        GraphedNetwork(network)(torch.randn(1, 1, 12, 12))
    torch.cuda.graph(None)
    assert modes == ["thread_local", "global"]


@pytest.mark.gpu
def test_graphs_train_and_predict_as_the_network_does():
    torch.manual_seed(0)
    networks = [MSDModule(1, 1, depth=12, width=1).cuda() for _ in range(2)]
    torch.nn.init.normal_(networks[0].final_layer.linear.weight)
    networks[1].load_state_dict(networks[0].state_dict())
    calls = [networks[0], GraphedNetwork(networks[1])]
    optimizers = [torch.optim.Adam(network.parameters(), 1e-3) for network in networks]
    for _ in range(5):
        image, target = torch.randn(2, 1, 1, 96, 96, device="cuda")
        losses = []
        for call, optimizer in zip(calls, optimizers, strict=True):
            optimizer.zero_grad(set_to_none=True)
            loss = (call(image) - target).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for one, two in zip(*(network.parameters() for network in networks), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        for _ in range(2):
            image = torch.randn(1, 1, 96, 96, device="cuda")
            torch.testing.assert_close(calls[1](image), networks[1](image))
