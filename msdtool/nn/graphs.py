"""CUDA graphs: a network's forward and backward pass, each launched as a whole.

A network of 100 layers launches some hundred kernels; Python and the driver need longer to launch
each than a small image takes to compute. A graph launches all of them together.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from msdtool.nn.memory import out_of_memory

MAX_GRAPHS = 4  # input shapes with a graph; each graph keeps its memory
WARM_UP_CALLS = 3  # before a capture: kernels are compiled, libraries allocate

Call = Callable[[Tensor], Tensor]


class GraphedNetwork(nn.Module):
    """Calls a network through CUDA graphs, one for each shape of its input.

    The output is the network's, in memory that the next call overwrites. The network is called
    without a graph if the input requires a gradient, for shapes after the first few, for those
    whose graph does not fit in memory, and for the first calls with a shape if there may be no
    more of it.

    The next backward pass overwrites the gradients of the parameters, so they must be used and set
    to None before it: gradients cannot be accumulated over batches.

    Args:
        network: on a GPU; launches the same kernels for all inputs of a shape, without waiting for
            results, and has neither hooks nor trainable buffers.
        calls_before: calls with a shape without a graph; to make one takes longer than five calls.
    """

    def __init__(self, network: nn.Module, calls_before: int = 0) -> None:
        super().__init__()
        self.network, self.calls_before = network, calls_before
        self._graphs: dict[tuple[object, ...], Call] = {}
        self._calls: Counter[tuple[object, ...]] = Counter()

    def forward(self, input: Tensor) -> Tensor:
        """Map the network's input to its output."""
        if input.requires_grad:
            return self.network(input)
        trains = torch.is_grad_enabled()
        key = trains, self.network.training, input.shape, input.dtype, input.device
        if key not in self._graphs:
            self._calls[key] += 1
            if len(self._graphs) == MAX_GRAPHS or self._calls[key] <= self.calls_before:
                return self.network(input)
            self._graphs[key] = self._captured(input, trains=trains)
        return self._graphs[key](input)

    def _captured(self, input: Tensor, *, trains: bool) -> Call:
        """A graph for inputs of a shape; where it does not fit in memory, the network."""
        capture = _capture_training if trains else _capture_inference
        try:
            return capture(self.network, torch.zeros_like(input))
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        torch.cuda.empty_cache()
        return cast(Call, self.network)


def _capture_training(network: nn.Module, sample: Tensor) -> Call:
    """Capture forward and backward; inputs are copied to the sample's memory."""
    with _undisturbed():
        graphed = torch.cuda.make_graphed_callables(
            _Call(network), (sample,), num_warmup_iters=WARM_UP_CALLS
        )
    return cast(Call, graphed)


def _capture_inference(network: nn.Module, sample: Tensor) -> Call:
    """Capture forward alone."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_CALLS):
            network(sample)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with _undisturbed(), torch.cuda.graph(graph):
        output = network(sample)

    def replay(input: Tensor) -> Tensor:
        sample.copy_(input)
        graph.replay()
        return output.detach()

    return replay


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Within the context, captures bear that other threads call CUDA, as those that pin memory do.

    `torch.cuda.make_graphed_callables` has no argument for it.
    """
    graph: Any = torch.cuda.graph
    torch.cuda.graph = partial(graph, capture_error_mode="thread_local")  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        torch.cuda.graph = graph  # type: ignore[misc]


class _Call(nn.Module):
    """A separate module for each graph, because torch replaces its forward."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.network(input)
        return output
