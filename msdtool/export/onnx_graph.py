"""Building the graph of an ONNX file."""

from typing import Any

import numpy as np

from msdtool.export.interface import INPUT, Interface

OPSET, IR_VERSION = 18, 8
"""Of 2022: onnxruntime reads it from 1.14 on."""


class Graph:
    """Nodes and constants; values are known by their names.

    Args:
        onnx: the package.
    """

    def __init__(self, onnx: Any) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def constant(self, name: str, value: Any) -> str:
        """Store an array or a number of NumPy."""
        self.constants[name] = self.onnx.numpy_helper.from_array(np.asarray(value), name)
        return name

    def integers(self, *values: int) -> str:
        """A list of integers, as axes and shapes are."""
        return self.constant("integers " + " ".join(map(str, values)), np.array(values, np.int64))

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append a node and return its output; of two, such as TopK has, the first."""
        output = f"{kind} {len(self.nodes)}"
        self.add_named(kind, inputs, output, **attributes)
        return output

    def add_named(self, kind: str, inputs: Any, output: str, **attributes: Any) -> None:
        """Append a node whose output has a name that it must have."""
        outputs = [output, f"{output} positions"] if kind == "TopK" else [output]
        node = self.onnx.helper.make_node(kind, list(inputs), outputs, name=output, **attributes)
        self.nodes.append(node)

    def to_bytes(self, interface: Interface, name: str, properties: dict[str, str]) -> bytes:
        """Return the file.

        Args:
            interface: of the network; batch and spatial axes may have any size.
            name: of the graph.
            properties: the file's metadata.
        """
        helper = self.onnx.helper

        def value(name: str, dtype: Any) -> Any:
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            shape = ["batch", interface.channels(name), *interface.space]
            return helper.make_tensor_value_info(name, kind, shape)

        graph = helper.make_graph(
            self.nodes,
            name,
            [value(INPUT, np.float32)],
            [value(output, dtype) for output, dtype in interface.outputs.items()],
            list(self.constants.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="msdtool",
            doc_string="\n".join(interface.sentences()),
        )
        helper.set_model_props(model, properties)
        content: bytes = model.SerializeToString()
        return content
