"""Exported networks compute what msdtool's own engines compute for raw images."""

import io
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from msdtool.export.interface import Interface
from msdtool.export.onnx_network import to_onnx
from msdtool.export.plain import PlainNetwork
from msdtool.export.pt2 import to_pt2
from msdtool.predict import Predictor
from msdtool.scaling import Scaling

from .models import make_model

LABELS = (0, 127, 300)
PERCENTILES = Scaling(method="percentile", per="image", percentiles=(1.0, 99.5))
CASES = {
    "symmetric": {},
    "reflect": {"padding": "reflect", "c_in": 2, "c_out": 3, "width": 2},
    "zeros": {"padding": "zeros"},
    "symmetric volumes": {"ndim": 3, "width": 2},
    "reflect volumes": {"ndim": 3, "padding": "reflect"},
    "zeros volumes": {"ndim": 3, "padding": "zeros", "c_out": 2},
    "labels": {"labels": LABELS, "c_out": 3},
    "a single layer": {"depth": 1, "dilations": (3, 1)},
    "own statistics": {"c_in": 2, "c_out": 2, "scaling": Scaling(per="image")},
    "own statistics, slabs": {
        "c_in": 6, "c_out": 4, "slab": 1, "scaling": Scaling(per="image"),
    },
    "own statistics, targets of the data set": {
        "scaling": Scaling(per="image", target="dataset"),
    },
    "own statistics of volumes, labels": {
        "ndim": 3, "labels": LABELS, "c_out": 3, "scaling": PERCENTILES,
    },
    "own percentiles": {"c_in": 2, "c_out": 2, "scaling": PERCENTILES},
}  # fmt: skip


@pytest.fixture(params=CASES, scope="module")
def model(request):
    return make_model(**CASES[request.param])


def images(model, *sizes):
    """Two images, the second brighter than the first."""
    shape = (2, model.architecture.c_in, *sizes[: model.architecture.ndim])
    noise = np.random.default_rng(0).normal(100, 20, shape).astype(np.float32)
    return noise * np.float32([1, 1.5]).reshape(2, *(1,) * (len(shape) - 1))


def check(model, input, outputs):
    """Compare with what is predicted for each image alone."""
    predictor = Predictor(model, "cpu")
    for number, image in enumerate(input):
        expected = predictor(torch.from_numpy(image))
        found = [np.asarray(output[number]) for output in outputs]
        if model.labels:
            np.testing.assert_allclose(found[0], expected.softmax(0).numpy(), rtol=0, atol=1e-5)
            assert found[1].dtype == np.uint16
            assert len(np.unique(found[1])) > 1
            differing = found[1] != predictor.to_image(expected)
            assert differing.mean() < 0.001  # where two labels are equally probable
        else:
            error = np.abs(found[0] - expected.numpy()).max()
            assert error <= 1e-5 * np.abs(expected.numpy()).max()


def test_onnxruntime_computes_what_msdtool_predicts(model, tmp_path):
    content = to_onnx(Interface(model, "m.pt"), tmp_path / "m.onnx")
    onnx.checker.check_model(content, full_check=True)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for sizes in ((14, 9, 11), (4, 4, 4)):
        input = images(model, *sizes)
        check(model, input, session.run(None, {"input": input}))


def test_plain_torch_computes_what_msdtool_predicts(model):
    network = PlainNetwork(Interface(model, "m.pt")).requires_grad_(False)
    for sizes in ((14, 9, 11), (4, 4, 4)):
        input = images(model, *sizes)
        output = network(torch.from_numpy(input))
        check(model, input, output if isinstance(output, tuple) else [output])


@pytest.mark.slow
def test_programs_of_torch_export_take_any_size():
    model = make_model(depth=2, labels=LABELS, c_out=3, c_in=2, scaling=PERCENTILES)
    extra = {"msdtool.json": ""}
    content = io.BytesIO(to_pt2(Interface(model, "m.pt")))
    program = torch.export.load(content, extra_files=extra).module()
    assert json.loads(extra["msdtool.json"])["smallest_size"] == 2
    for sizes in ((14, 9), (4, 4)):
        input = images(model, *sizes)
        check(model, input, program(torch.from_numpy(input)))


@pytest.mark.parametrize(("padding", "smallest"), [("symmetric", 3), ("reflect", 4)])
def test_images_smaller_than_the_dilations_allow_are_an_error(padding, smallest, tmp_path):
    interface = Interface(make_model(padding=padding), "m.pt")
    assert interface.smallest == smallest
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        to_onnx(interface, tmp_path / "m.onnx"), options, providers=["CPUExecutionProvider"]
    )
    assert session.run(None, {"input": np.ones((1, 1, smallest, 9), np.float32)})[0].size
    with pytest.raises(Exception, match="out of data bounds"):
        session.run(None, {"input": np.ones((1, 1, 9, smallest - 1), np.float32)})


def test_a_deep_network_takes_few_nodes_and_no_more_bytes_than_its_weights(tmp_path):
    model = make_model(depth=100, dilations=tuple(range(1, 11)))
    content = to_onnx(Interface(model, "m.pt"), tmp_path / "m.onnx")
    nodes = onnx.load_model_from_string(content).graph.node
    assert sum(node.op_type == "Conv" for node in nodes) == 103
    assert len(nodes) < 550
    assert len(content) < 4 * 45_652 + 100_000


def test_files_say_what_the_network_takes(tmp_path):
    model = make_model(labels=LABELS, c_out=3, c_in=3, slab=1, padding="reflect")
    file = onnx.load_model_from_string(to_onnx(Interface(model, "m.pt"), tmp_path / "m.onnx"))
    (held,) = file.metadata_props
    assert held.key == "msdtool"
    assert json.loads(held.value) == {
        "task": "segmentation",
        "axes": ["batch", "channel", "height", "width"],
        "smallest_size": 4,
        "channels": {"input": 3, "probabilities": 3, "labels": 1},
        "labels": list(LABELS),
        "scaling": "mean 0 and standard deviation 1, of the training set",
        "slices": 3,
        "splits": 0,
        "collapse_channels": False,
    }
    assert "adjacent slices, the topmost first, 1 of each" in file.doc_string
    assert "labels 0, 127, 300" in file.doc_string
