"""Networks as ONNX files, written node by node.

Torch's own exporter takes ten minutes for depth 100 and further packages; its graph runs three
times as long, since it pads the whole input of each layer.
"""

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from msdtool import strict_json
from msdtool.border import edge_width
from msdtool.data.extras import load_extra
from msdtool.export.interface import INPUT, LABELS, PROBABILITIES, VALUES, Interface
from msdtool.export.onnx_graph import Graph
from msdtool.predict.network import load_network


def to_onnx(interface: Interface, path: Path) -> bytes:
    """Return an ONNX file that computes what `msdtool.export.plain.PlainNetwork` does.

    Its property "msdtool" holds what `Interface.to_dict` returns.

    Args:
        interface: of the network.
        path: the file that needs it, for error messages.

    Raises:
        InputError: the package onnx is missing.
        ModelFileError: the weights do not fit the architecture.
    """
    graph = Graph(load_extra("onnx", path))
    load_network(interface.model, interface.name)  # compares the weights
    _Writer(interface, graph).write()
    properties = {"msdtool": strict_json.dumps(interface.to_dict())}
    return graph.to_bytes(interface, "msd", properties)


class _Writer:
    """Writes a network's nodes; see `msdtool.export.plain.PlainNetwork` for what they compute."""

    def __init__(self, interface: Interface, graph: Graph) -> None:
        self.interface, self.graph = interface, graph
        self.model, self.architecture = interface.model, interface.model.architecture
        self.axes = range(2, 2 + self.architecture.ndim)
        self.margin = 0 if self.architecture.padding == "zeros" else interface.margin

    def write(self) -> None:
        """Write the network."""
        graph, model = self.graph, self.model
        shift = scale = None
        image = INPUT
        if model.scaling.is_per_image:
            shift, scale = self._levels()
            slices = 2 * model.slab + 1
            image = graph.add("Sub", image, self._repeated(shift, slices))
            image = graph.add("Div", image, self._repeated(scale, slices))
        output = self._scaled(self._msd(self._scaled(image, "scale_in")), "scale_out")
        if shift and scale and model.task == "regression" and model.scaling.target == "input":
            count = self.architecture.c_out // self.interface.slice_channels
            output = graph.add("Mul", output, self._repeated(scale, count))
            output = graph.add("Add", output, self._repeated(shift, count))
        if not model.labels:
            graph.add_named("Identity", [output], VALUES)
            return
        graph.add_named("Softmax", [output], PROBABILITIES, axis=1)
        values = graph.constant("values", np.array(model.labels, self.interface.outputs[LABELS]))
        best = graph.add("ArgMax", output, axis=1, keepdims=1)
        graph.add_named("Gather", [values, best], LABELS)

    # The network -------------------------------------------------------------------------------

    def _weight(self, name: str, part: slice = slice(None), label: str = "") -> str:
        """Store a tensor of the state dict, or a part of it; 1x1 kernels get all spatial axes."""
        tensor: Tensor = self.model.state[name][part]
        if name == "msd.final_layer.linear.weight":
            tensor = tensor.unflatten(2, (1,) * len(self.axes))
        return self.graph.constant(name + label, tensor.float().numpy())

    def _scaled(self, image: str, layer: str) -> str:
        return self.graph.add(
            "Conv", image, self._weight(f"{layer}.weight"), self._weight(f"{layer}.bias")
        )

    def _msd(self, input: str) -> str:
        graph, width = self.graph, self.architecture.width
        sources = [self._source(axis) for axis in self.axes if self.margin]
        features = self._select(input, sources)
        sources = [graph.add("Add", source, graph.integers(self.margin)) for source in sources]
        for layer in range(self.architecture.depth):
            dilation = self.architecture.dilations[layer % len(self.architecture.dilations)]
            output = graph.add(
                "Conv",
                features,
                self._weight(f"msd.msd_block.weight{layer}"),
                self._weight(
                    "msd.msd_block.bias", slice(layer * width, (layer + 1) * width), str(layer)
                ),
                dilations=[dilation] * len(self.axes),
                pads=[dilation] * 2 * len(self.axes),
            )
            output = self._select(graph.add("Relu", output), sources)
            features = graph.add("Concat", features, output, axis=1)
        final = "msd.final_layer.linear"
        output = graph.add(
            "Conv", features, self._weight(f"{final}.weight"), self._weight(f"{final}.bias")
        )
        if not self.margin:
            return output
        ends = [self.margin] * len(self.axes), [-self.margin] * len(self.axes)
        return graph.add("Slice", output, *(graph.integers(*e) for e in (*ends, self.axes)))

    def _source(self, axis: int) -> str:
        """The pixel for each position of an axis with its halo; see `reference.border_index`."""
        graph, edge = self.graph, edge_width(self.architecture.padding)
        size = graph.add("Shape", INPUT, start=axis, end=axis + 1)
        first = graph.constant("first", np.int64(-self.margin))
        stop = graph.add("Squeeze", graph.add("Add", size, graph.integers(self.margin)))
        index = graph.add("Range", first, stop, graph.constant("step", np.int64(1)))
        before = graph.add("Sub", graph.integers(edge - 1), index)
        twice = graph.add("Mul", size, graph.integers(2))
        after = graph.add("Sub", graph.add("Sub", twice, graph.integers(1 + edge)), index)
        # Of an image that is too small, the first position lies outside, which is an error.
        inside = graph.add("Where", graph.add("Less", index, size), index, after)
        return graph.add("Where", graph.add("Less", index, graph.integers(0)), before, inside)

    def _select(self, image: str, sources: list[str]) -> str:
        for axis, source in enumerate(sources, 2):
            image = self.graph.add("Gather", image, source, axis=axis)
        return image

    # Levels of each image ----------------------------------------------------------------------

    def _levels(self) -> tuple[str, str]:
        """What is subtracted from values, and what they are divided by then, [B, C, 1]."""
        graph, slab = self.graph, self.model.slab
        each = self.interface.slice_channels
        bounds = (graph.integers(slab * each), graph.integers((slab + 1) * each))
        image = graph.add("Slice", INPUT, *bounds, graph.integers(1))
        values = graph.add("Reshape", image, graph.integers(0, each, -1))
        if self.model.scaling.method == "mean_std":
            values, last = self._double(values), graph.integers(2)
            mean = graph.add("ReduceMean", values, last)
            difference = graph.add("Sub", values, mean)
            square = graph.add("Mul", difference, difference)
            spread = graph.add("Sqrt", graph.add("ReduceMean", square, last))
            return self._float(mean), self._float(spread)
        count = graph.add("Shape", values, start=2, end=3)
        ordered = graph.add("TopK", values, count, axis=2, largest=0, sorted=1)
        place = self._double(graph.add("Sub", count, graph.integers(1)))
        low, high = (self._at(ordered, place, p) for p in self.model.scaling.percentiles)
        return self._float(low), self._float(graph.add("Sub", high, low))

    def _at(self, ordered: str, last: str, percent: float) -> str:
        """Interpolate between the two ordered values around a percentile."""
        graph = self.graph

        def number(value: float) -> str:
            return graph.constant(f"number {value}", np.float64(value))

        place = graph.add("Div", graph.add("Mul", last, number(percent)), number(100))
        rank = graph.add("Floor", place)
        low, high = (
            self._double(graph.add("Gather", ordered, self._cast(position, np.int64), axis=2))
            for position in (rank, graph.add("Ceil", place))
        )
        rise = graph.add("Mul", graph.add("Sub", high, low), graph.add("Sub", place, rank))
        return graph.add("Add", low, rise)

    def _cast(self, value: str, dtype: Any) -> str:
        kind = self.graph.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.graph.add("Cast", value, to=kind)

    def _double(self, value: str) -> str:
        return self._cast(value, np.float64)

    def _float(self, value: str) -> str:
        return self._cast(value, np.float32)

    def _repeated(self, levels: str, count: int) -> str:
        """Levels [B, C, 1] with the axes of images [B, count * C, *space]."""
        graph = self.graph
        levels = graph.add("Tile", levels, graph.integers(1, count, 1))
        shape = graph.integers(0, -1, *(1 for _ in self.axes))
        return graph.add("Reshape", levels, shape)
