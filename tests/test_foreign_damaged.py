"""Files of other packages that are damaged or something else."""

import os
import pickle

import h5py
import numpy as np
import pytest
import torch

from msdtool.errors import ConfigError, ModelFileError
from msdtool.foreign import import_model
from tests.test_foreign import IDENTITY, random_network, write_msd_pytorch, write_msdnet


class Evil:
    """What would run code on loading."""

    def __reduce__(self):
        return print, ("code was run",)


def test_code_in_a_file_is_not_run(tmp_path, capsys):
    parts = random_network(1, 1, 2, 1)
    path = write_msd_pytorch(tmp_path / "a.torch", parts, IDENTITY, IDENTITY, extra=Evil())
    with pytest.raises(ModelFileError, match="which may run code; it is not loaded"):
        import_model(path)
    (tmp_path / "b.torch").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ModelFileError):
        import_model(tmp_path / "b.torch")
    assert capsys.readouterr().out == ""


def damaged(parts, which, value):
    return tuple(value if index == which else part for index, part in enumerate(parts))


def test_weights_that_do_not_fit_are_refused(tmp_path):
    parts = random_network(1, 1, 3, 1)
    cases = {
        "final": damaged(parts, 2, parts[2][:, 1:]),
        "bias": damaged(parts, 1, parts[1][1:]),
        "layer": damaged(parts, 0, [parts[0][0], parts[0][0], parts[0][2]]),
        "nan": damaged(parts, 3, parts[3] * np.float32(np.nan)),
    }
    for name, case in cases.items():
        path = write_msd_pytorch(tmp_path / f"{name}.torch", case, IDENTITY, IDENTITY)
        with pytest.raises(ModelFileError, match=r"its weights do not fit each other: ."):
            import_model(path)
        path = write_msdnet(tmp_path / f"{name}.h5", case, [1, 2, 3])
        with pytest.raises(ModelFileError, match=r"is damaged, "):
            import_model(path, task="regression")


def test_what_is_something_else_is_refused_in_words(tmp_path, regression_run):
    def refused(name, message):
        with pytest.raises(ModelFileError) as error:
            import_model(tmp_path / name)
        assert error.value.message.startswith(f"{tmp_path / name}: {message}")

    refused("none.torch", "no such file")
    (tmp_path / "junk.torch").write_bytes(b"junk" * 99)
    refused("junk.torch", "is a file of neither msd_pytorch nor msdnet")
    (tmp_path / "ours.pt").write_bytes((regression_run / "checkpoints" / "best.pt").read_bytes())
    refused("ours.pt", "is already a checkpoint of msdtool")
    torch.save({"weights": torch.ones(3)}, tmp_path / "other.torch")
    refused("other.torch", "is not what msd_pytorch's MSDModel.save writes, it has no state_dict")
    torch.save({"state_dict": {"1.inc.weight": torch.ones(3)}}, tmp_path / "unet.torch")
    refused(
        "unet.torch", "its weights are not named like those of an MSD network of msd_pytorch: '1"
    )
    torch.save({"state_dict": {"1.msd_block.weight0": torch.ones(())}}, tmp_path / "scalar.torch")
    refused("scalar.torch", "is damaged, its weights do not fit each other")
    (tmp_path / "cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"0" * 40)
    refused("cut.h5", "is damaged, or not of msdnet")
    with h5py.File(tmp_path / "volume.h5", "w") as file:
        file["data"] = np.ones(3)
    refused("volume.h5", "is an HDF5 file without the group that msdnet writes, network or")
    with h5py.File(tmp_path / "half.h5", "w") as file:
        file.create_group("network").attrs.update({"d": 1, "nin": 1, "nout": 1})
    refused("half.h5", "is not a network of msdnet, it has no dl")


def test_what_contradicts_the_file_is_refused(tmp_path):
    parts = random_network(1, 1, 2, 1)
    torch_file = write_msd_pytorch(tmp_path / "a.torch", parts, IDENTITY, IDENTITY)
    with pytest.raises(
        ConfigError, match=r"task is segmentation: the network in .* is a regression"
    ):
        import_model(torch_file, task="segmentation")
    h5_file = write_msdnet(tmp_path / "a.h5", parts, [1, 2])
    with pytest.raises(ConfigError, match="dilations: a file of msdnet records them"):
        import_model(h5_file, task="regression", dilations=[1])


def refusal(path):
    with pytest.raises(ModelFileError) as error:
        import_model(path, task="regression")
    assert error.value.message.startswith(f"{path}: ") and len(error.value.message) < 500
    return error.value.message.removeprefix(f"{path}: ")


# What is wrong with a file of msd_pytorch: a tensor's name and its value; None: it is missing.
TENSORS = {
    "vector": ("1.msd_block.weight0", torch.ones(3)),
    "scalar": ("1.msd_block.weight0", torch.ones(())),
    "other layer": ("1.msd_block.weight1", torch.ones(1, 7, 3, 3)),
    "missing layer": ("1.msd_block.weight1", None),
    "extra layer": ("1.msd_block.weight7", torch.ones(1, 2, 3, 3)),
    "missing bias": ("1.final_layer.linear.bias", None),
    "bias a matrix": ("1.final_layer.linear.bias", torch.ones(1, 1)),
    "integers": ("1.msd_block.bias", torch.ones(3, dtype=torch.int32)),
    "complex": ("1.msd_block.bias", torch.ones(3, dtype=torch.complex64)),
    "infinite": ("1.msd_block.bias", torch.full((3,), torch.inf)),
    "infinite in float32": ("1.msd_block.bias", torch.full((3,), 1e300, dtype=torch.float64)),
    "one value for 10^12": ("1.msd_block.weight0", torch.ones(1).expand(1, 10**12, 3, 3)),
    "without values": ("1.msd_block.weight0", torch.empty(1, 10**12, 3, 3, device="meta")),
    "scale of one": ("0.weight", torch.ones(())),
    "a number": ("0.weight", 1.0),
    "a name that is a number": (7, torch.ones(1)),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_damaged_tensors_of_msd_pytorch_are_refused(tmp_path, kind):
    path = write_msd_pytorch(tmp_path / "a.torch", random_network(1, 1, 3, 1), IDENTITY, IDENTITY)
    content = torch.load(path, weights_only=True)
    name, value = TENSORS[kind]
    content["state_dict"][name] = value
    if value is None:
        del content["state_dict"][name]
    torch.save(content, path)
    expected = "its weights are not named like" if kind.startswith("a n") else "is damaged, its we"
    assert refusal(path).startswith(expected)


# What is wrong with a file of msdnet: an attribute or array, and its value; None: it is missing.
ENTRIES = {
    **{f"{key} {value}": (key, value) for key in ("d", "nin", "nout")
       for value in (0, -1, 10**9, 1.5, np.nan, np.inf, "x", [1, 2], 2)},
    **{f"{key} missing": (key, None) for key in ("d", "nin", "dl", "f", "f/00001", "o", "w", "oo")},
    **{f"{key} of text": (key, np.array([b"x"] * 3)) for key in ("dl", "o", "w", "f/00000")},
    **{f"{key} complex": (key, np.ones(3, np.complex64)) for key in ("dl", "o")},
    **{f"{key} too long": (key, np.ones(4)) for key in ("dl", "o", "w", "oo", "gam_in")},
    **{f"{key} a number": (key, 3.0) for key in ("dl", "f", "f/00000", "o", "w")},
    "dilations 0": ("dl", np.zeros(3, int)),
    "dilations NaN": ("dl", np.full(3, np.nan)),
    "biases NaN": ("o", np.full(3, np.nan)),
}  # fmt: skip


@pytest.mark.parametrize("kind", ENTRIES)
def test_damaged_entries_of_msdnet_are_refused(tmp_path, kind):
    scales = {"gam_in": [2.0], "off_in": [1.0], "gam_out": [3.0], "off_out": [0.0]}
    path = write_msdnet(tmp_path / "a.h5", random_network(1, 1, 3, 1), [1, 2, 3], scales)
    key, value = ENTRIES[kind]
    with h5py.File(path, "r+") as file:
        entries = file["network"].attrs if key in ("d", "nin", "nout") else file["network"]
        del entries[key]
        if value is not None:
            entries[key] = value
    found = refusal(path)
    assert found.startswith(("is damaged, ", "is not a network of msdnet, it has no "))


def test_arrays_that_take_no_space_are_not_read(tmp_path):
    path = write_msdnet(tmp_path / "a.h5", random_network(1, 1, 3, 1), [1, 2, 3])
    with h5py.File(path, "r+") as file:
        network = file["network"]
        for key in ("dl", "w"):
            del network[key]
            network.create_dataset(key, (10**6, 10**6), "f4", chunks=(100, 100))
    assert path.stat().st_size < 10**5
    assert refusal(path).startswith("is damaged, or not of msdnet: ")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["msdnet", "msd_pytorch"])
def test_files_that_were_cut_off_are_refused(tmp_path, kind, kept):
    parts = random_network(1, 1, 3, 1)
    path = tmp_path / "a"
    if kind == "msdnet":
        write_msdnet(path, parts, [1, 2, 3])
    else:
        write_msd_pytorch(path, parts, IDENTITY, IDENTITY)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert refusal(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.torch")
    assert refusal(tmp_path / "a.torch") == (
        "cannot be read: it is a pipe; save what it contains as a file"
    )
