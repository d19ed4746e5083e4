"""Networks as packages of the BioImage Model Zoo (https://bioimage.io), format 0.5."""

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msdtool.config import dump_yaml
from msdtool.export.interface import INPUT, LABELS, PROBABILITIES, VALUES, Interface
from msdtool.export.onnx_graph import OPSET
from msdtool.export.onnx_network import to_onnx
from msdtool.predict.own_levels import of_image
from msdtool.predict.predictor import Predictor
from msdtool.progress import no_progress
from msdtool.runs.versions import versions

FORMAT_VERSION = "0.5.3"
MODEL_FILE, TEXT_FILE = "model.onnx", "README.md"
AXES = {"depth": "z", "height": "y", "width": "x"}
TEST_FILES_TEXT = (
    "The test image is noise with the mean and standard deviation of the training images; the test "
    "output is what msdtool computes for it."
)
EDGE = {2: 64, 3: 24}
"""Pixels along each axis of the test image, at least."""
METHOD = {
    "text": "Pelt, D.M., Sethian, J.A.: A mixed-scale dense convolutional neural network for image "
    "analysis. PNAS 115(2), 254-259 (2018)",
    "doi": "10.1073/pnas.1715832114",
}


def to_bioimage(interface: Interface, path: Path) -> bytes:
    """Return a zip archive with the network as ONNX, its description, and a test image.

    The test image is noise with the mean and deviation of the training images, and the test output
    is what our own engines compute for it.

    Raises:
        InputError: the package onnx is missing.
        ModelFileError: the weights do not fit the architecture.
    """
    model = to_onnx(interface, path)
    tensors = _test_tensors(interface)
    text = _text(interface)
    files = {
        "rdf.yaml": dump_yaml(_description(interface, model)).encode(),
        TEXT_FILE: text.encode(),
        MODEL_FILE: model,
        **{_test_file(name): _npy(tensor) for name, tensor in tensors.items()},
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            # Of a fixed date, so that one network always gives one file.
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _test_file(name: str) -> str:
    return f"test_{name}.npy"


def _npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _test_tensors(interface: Interface) -> dict[str, Any]:
    """A batch of one image, and what `msdtool predict` computes for it."""
    model = interface.model
    predictor = Predictor(model, "cpu", interface.name)
    ndim, channels = predictor.ndim, predictor.c_in
    space = [max(EDGE[ndim], interface.smallest) + 8 * axis for axis in range(ndim)]
    noise = np.random.default_rng(0).standard_normal((channels, *space))
    mean, std = (
        np.reshape(values, (-1, *(1,) * ndim))
        for values in (model.normalisation.input_mean, model.normalisation.input_std)
    )
    image = torch.from_numpy((noise * std + mean).astype(np.float32))
    levels = of_image(model, image, interface.name)
    own = None if levels is None else levels[0]
    output = predictor.compute(image, interface.name, no_progress, own)
    result = predictor.to_image(output)
    results = {PROBABILITIES: output.softmax(0).numpy(), LABELS: result}
    found = {INPUT: image.numpy(), **(results if model.labels else {VALUES: result})}
    return {name: array[np.newaxis] for name, array in found.items()}


def _description(interface: Interface, model: bytes) -> dict[str, Any]:
    """The content of rdf.yaml."""
    task = "segmentation" if interface.model.labels else "image restoration"
    ndim = interface.model.architecture.ndim
    return {
        "format_version": FORMAT_VERSION,
        "type": "model",
        "name": _name(interface),
        "description": f"Mixed-Scale Dense network, {task}, {ndim}D",
        "cite": [METHOD],
        "documentation": TEXT_FILE,
        "tags": ["mixed-scale-dense", f"{ndim}d", task.replace(" ", "-"), "msdtool"],
        "inputs": [_input(interface)],
        "outputs": [_output(interface, name) for name in interface.outputs],
        "weights": {
            "onnx": {
                "source": MODEL_FILE,
                "sha256": hashlib.sha256(model).hexdigest(),
                "opset_version": OPSET,
            }
        },
        "config": {"msdtool": {"version": versions()["msdtool"], **interface.to_dict()}},
    }


def _name(interface: Interface) -> str:
    """The file's or run's name in the characters that the format allows."""
    path = Path(interface.name)
    run = path.parent.parent.name if path.parent.name == "checkpoints" else ""
    kept = (c if c.isascii() and (c.isalnum() or c in "_-") else " " for c in run or path.stem)
    return " ".join(["MSD network", *"".join(kept).split()])[:100].strip()


def _input(interface: Interface) -> dict[str, Any]:
    sizes = {axis: {"min": interface.smallest, "step": 1} for axis in interface.space}
    return _tensor(interface, INPUT, "float32", sizes)


def _output(interface: Interface, name: str) -> dict[str, Any]:
    sizes = {axis: {"tensor_id": INPUT, "axis_id": AXES[axis]} for axis in interface.space}
    return _tensor(interface, name, interface.outputs[name].name, sizes)


def _tensor(
    interface: Interface, name: str, dtype: str, sizes: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Describe the input or an output."""
    labels = interface.model.labels
    values = {"values": list(labels)} if name == LABELS else {}
    channels = (
        [f"label {label}" for label in labels]
        if name == PROBABILITIES
        else [f"channel {number}" for number in range(interface.channels(name))]
    )
    return {
        "id": name,
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": channels},
            *({"type": "space", "id": AXES[axis], "size": size} for axis, size in sizes.items()),
        ],
        "data": {"type": dtype, **values},
        "test_tensor": {"source": _test_file(name)},
    }


def _text(interface: Interface) -> str:
    """The documentation of the package."""
    lines = "\n\n".join(interface.sentences())
    return (
        f"# {_name(interface)}\n\nA Mixed-Scale Dense network, exported by msdtool "
        f"{versions()['msdtool']}.\n\n{lines}\n\n## Validation\n\n{TEST_FILES_TEXT}\n\n"
        f"## Citation\n\n{METHOD['text']}, https://doi.org/{METHOD['doi']}\n"
    )
