import hashlib
import io
import json
import sys
import zipfile

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml

from msdtool.architecture import OuterLayers, Stream

from ..export.models import make_model, save_model
from ..helpers import write_image


@pytest.fixture
def checkpoint(tmp_path):
    return save_model(tmp_path / "best.pt", make_model())


def test_the_command_writes_a_file_and_says_what_it_takes(cli, regression_run, tmp_path):
    file = tmp_path / "new" / "m.onnx"
    result = cli("export", regression_run, "-o", file)
    assert (result.code, result.out) == (0, f"{file}\n")
    assert "any size from 3 pixels" in result.err
    onnx.checker.check_model(onnx.load(file))
    quiet = cli("export", regression_run, "-o", file, "--overwrite", "--quiet", "--json")
    assert quiet.err == ""
    facts = json.loads(quiet.out)
    assert (facts["file"], facts["format"]) == (str(file), "ONNX")
    assert facts["channels"] == {"input": 1, "output": 1}
    assert list(file.parent.iterdir()) == [file]


def test_packages_of_bioimage_io_reproduce_their_test_outputs(cli, segmentation_run, tmp_path):
    files = [tmp_path / "a.zip", tmp_path / "b.zip"]
    for file in files:
        assert cli("export", segmentation_run, "-o", file).code == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    with zipfile.ZipFile(files[0]) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    description = yaml.safe_load(found["rdf.yaml"])
    weights = description["weights"]["onnx"]
    content = found[weights["source"]]
    assert hashlib.sha256(content).hexdigest() == weights["sha256"]
    assert onnx.load_model_from_string(content).opset_import[0].version == weights["opset_version"]
    assert b"labels 0, 127, 255" in found[description["documentation"]]
    tensors = {
        tensor["id"]: np.load(io.BytesIO(found[tensor["test_tensor"]["source"]]))
        for tensor in (*description["inputs"], *description["outputs"])
    }
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    outputs = session.run(list(tensors)[1:], {"input": tensors["input"]})
    np.testing.assert_allclose(outputs[0], tensors["probabilities"], rtol=0, atol=1e-5)
    assert (outputs[1] != tensors["labels"]).mean() < 0.001
    for tensor in (*description["inputs"], *description["outputs"]):
        array = tensors[tensor["id"]]
        assert array.dtype == tensor["data"]["type"]
        batch, channel, *space = tensor["axes"]
        assert array.shape[:2] == (1, len(channel["channel_names"]))
        assert (batch["type"], [axis["id"] for axis in space]) == ("batch", ["y", "x"])
    assert [axis["size"] for axis in description["inputs"][0]["axes"][2:]] == [
        {"min": 3, "step": 1}
    ] * 2
    assert description["outputs"][1]["data"]["values"] == [0, 127, 255]


def test_other_suffixes_are_refused(refused, checkpoint, tmp_path):
    for name in ("m.pth", "m"):
        message = refused("export", checkpoint, "-o", tmp_path / name, code=2)
        assert "allowed: .onnx (ONNX), .pt2 (torch.export), .zip (BioImage.IO)" in message


def test_files_are_kept_unless_they_shall_be_overwritten(refused, checkpoint, tmp_path):
    write_image(tmp_path / "m.onnx", np.ones((4, 4), np.float32))
    message = refused("export", checkpoint, "-o", tmp_path / "m.onnx", code=2)
    assert "already exists; overwrite it" in message
    assert "--overwrite" in message


def test_a_checkpoint_is_not_replaced_by_its_own_export(refused, tmp_path):
    model = save_model(tmp_path / "model.zip", make_model())
    message = refused("export", model, "-o", model, "--overwrite", code=2)
    assert "is the network to export; choose another name" in message


def test_without_onnx_the_extra_is_named(refused, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    for name in ("m.onnx", "m.zip"):
        message = refused("export", checkpoint, "-o", tmp_path / name, code=3)
        assert "pip install 'msdtool[export]'" in message


SEQUENCES = {"ndim": 3, "stream": Stream(axis=0, dt=2)}
HEAD = {"outer": OuterLayers([], 1, 1, [{"ReLU": {}}], 1)}


@pytest.mark.parametrize(
    ("case", "reason"), [(SEQUENCES, "image sequences"), (HEAD, "network.head")]
)
@pytest.mark.parametrize("name", ["m.onnx", "m.pt2", "m.zip"])
def test_networks_that_others_could_not_run_are_refused(case, reason, name, refused, tmp_path):
    model = save_model(tmp_path / "best.pt", make_model(**case))
    message = refused("export", model, "-o", tmp_path / name, code=3)
    assert reason in message
    assert "Apply it with 'msdtool predict'" in message


def test_a_file_that_cannot_be_written_is_an_error(refused, checkpoint, tmp_path):
    (tmp_path / "file").write_text("")
    message = refused("export", checkpoint, "-o", tmp_path / "file" / "m.onnx", code=1)
    assert "cannot be written: Not a directory" in message
