"""Files of msd_pytorch and msdnet, written here by their formats, against formulas in float64."""

import h5py
import numpy as np
import pytest
import tifffile
import torch

from msdtool.errors import ConfigError
from msdtool.foreign import import_model
from msdtool.predict import Predictor

rng = np.random.default_rng(7)

PAD_MODES = {"msd_pytorch": "symmetric", "msdnet": "reflect"}  # numpy's names


def network(image, weights, bias, final_weight, final_bias, dilations, mode):
    """An MSD network from its definition (PNAS 2018, eqs. 3 and 4), any number of axes."""
    channels = list(image)
    number = 0
    for layer, weight in enumerate(weights):
        s = dilations[layer % len(dilations)]
        new = []
        for of_output in weight:
            value = np.full(image.shape[1:], bias[number], np.float64)
            number += 1
            for channel, taps in zip(channels, of_output, strict=True):
                padded = np.pad(channel, s, mode=mode)
                for tap in np.ndindex(*taps.shape):
                    place = zip(tap, channel.shape, strict=True)
                    value += taps[tap] * padded[tuple(slice(t * s, t * s + n) for t, n in place)]
            new.append(np.maximum(value, 0))
        channels += new
    return np.tensordot(final_weight, channels, 1) + final_bias.reshape(-1, *[1] * image[0].ndim)


def random_network(c_in, c_out, depth, width, ndim=2):
    """Weights, biases, final weights and final biases."""
    shapes = [(width, c_in + width * layer, *(3,) * ndim) for layer in range(depth)]
    return (
        [rng.normal(0, 0.3, shape).astype(np.float32) for shape in shapes],
        rng.normal(0, 0.3, depth * width).astype(np.float32),
        rng.normal(0, 0.3, (c_out, c_in + depth * width)).astype(np.float32),
        rng.normal(0, 0.3, c_out).astype(np.float32),
    )


def scaling(weight, bias, ndim=2):
    weight, bias = np.float32(weight), np.float32(bias)
    return torch.from_numpy(weight).reshape(*weight.shape, *(1,) * ndim), torch.from_numpy(bias)


IDENTITY = scaling([[1.0]], [0.0])


def write_msd_pytorch(path, parts, scale_in, scale_out=None, prefix="", **others):
    """A file as MSDModel.save writes it; without scale_out that of a segmentation."""
    weights, bias, final_weight, final_bias = parts
    module = "1." if scale_out else "1.0."
    state = {
        "0.weight": scale_in[0],
        "0.bias": scale_in[1],
        f"{module}msd_block.bias": torch.from_numpy(bias),
        **{f"{module}msd_block.weight{i}": torch.from_numpy(w) for i, w in enumerate(weights)},
        f"{module}final_layer.linear.weight": torch.from_numpy(final_weight)[..., None],
        f"{module}final_layer.linear.bias": torch.from_numpy(final_bias),
    }
    if scale_out:
        state |= {"2.weight": scale_out[0], "2.bias": scale_out[1]}
    state = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    torch.save(
        {"epoch": 12, "state_dict": state, "optimizer": {"param_groups": []}, **others}, path
    )
    return path


def write_msdnet(path, parts, dilations, scales=(), group="network"):
    """A file as msdnet's Network.to_file writes it."""
    weights, bias, final_weight, final_bias = parts
    with h5py.File(path, "w") as file:
        network = file.create_group(group)
        network.attrs["d"] = len(weights)
        network.attrs["nin"] = weights[0].shape[1]
        network.attrs["nout"] = len(final_bias)
        network["dl"] = np.array(dilations, np.int32)
        network["o"], network["w"], network["oo"] = bias, final_weight, final_bias
        for layer, weight in enumerate(weights):
            network[f"f/{layer:05}"] = weight[0]
        for name, values in dict(scales).items():
            network[name] = np.array(values, np.float32)
    return path


def predict(checkpoint, image):
    predictor = Predictor(checkpoint.model, "cpu")
    return predictor(torch.from_numpy(image.astype(np.float32))).numpy()


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(("ndim", "size"), [(2, (13, 11)), (3, (5, 6, 7))])
def test_a_regression_of_msd_pytorch_gives_its_outputs(tmp_path, prefix, ndim, size):
    """Its scaling layer may mix the channels: all of its weights are set to one number."""
    parts, dilations = random_network(2, 1, 4, 2, ndim), [1, 3, 4]
    mixing = np.full((2, 2), 0.5)
    path = write_msd_pytorch(
        tmp_path / "a.torch",
        parts,
        scaling(mixing, [-1.0, -1.0], ndim),
        scaling([[3.0]], [7.0], ndim),
        prefix,
    )
    checkpoint, origin = import_model(path, dilations=dilations)
    image = rng.normal(2, 2, (2, *size))
    scaled = np.tensordot(mixing, image, 1) - 1
    expected = 3 * network(scaled, *parts, dilations, PAD_MODES[origin]) + 7
    np.testing.assert_allclose(predict(checkpoint, image), expected, rtol=1e-4, atol=1e-4)
    model = checkpoint.model
    assert (model.task, model.architecture.padding) == ("regression", "symmetric")
    assert model.normalisation.input_mean == (2.0, 2.0)
    assert model.normalisation.input_std == (2.0, 2.0)
    assert checkpoint.progress.epoch == 12


def test_a_segmentation_of_msd_pytorch_gives_its_labels(tmp_path):
    parts = random_network(1, 3, 12, 1)
    path = write_msd_pytorch(tmp_path / "a.torch", parts, scaling([[0.25]], [-0.5]))
    checkpoint, _ = import_model(path)
    image = rng.normal(2, 4, (1, 12, 14))
    scores = network(image / 4 - 0.5, *parts, range(1, 11), "symmetric")
    np.testing.assert_allclose(predict(checkpoint, image), scores, rtol=1e-4, atol=1e-4)
    assert checkpoint.model.labels == (0, 1, 2)


def test_a_regression_of_msdnet_gives_its_outputs(tmp_path):
    parts, dilations = random_network(2, 2, 5, 1), [1, 2, 5, 3, 1]
    scales = {"gam_in": [2, 0.5], "off_in": [1, -1], "gam_out": [3, 4], "off_out": [5, 6]}
    for group in ("network", "checkpoint"):
        path = write_msdnet(tmp_path / f"{group}.h5", parts, dilations, scales, group)
        checkpoint, origin = import_model(path, data_range=5.0)
        image = rng.normal(0, 2, (2, 9, 10))
        scaled = image * np.reshape([2, 0.5], (2, 1, 1)) + np.reshape([1, -1], (2, 1, 1))
        output = network(scaled, *parts, dilations, PAD_MODES[origin])
        expected = output * np.reshape([3, 4], (2, 1, 1)) + np.reshape([5, 6], (2, 1, 1))
        np.testing.assert_allclose(predict(checkpoint, image), expected, rtol=1e-4, atol=1e-4)
        assert checkpoint.model.architecture.padding == "reflect"
        assert checkpoint.model.normalisation.data_range == 5.0


def test_the_task_of_an_msdnet_without_output_scaling_must_be_said(tmp_path):
    parts = random_network(1, 3, 4, 1)
    path = write_msdnet(tmp_path / "a.h5", parts, [1, 2, 3, 4])
    with pytest.raises(ConfigError, match=r"does not say whether .* set the task"):
        import_model(path)
    image = rng.normal(0, 1, (1, 9, 10))
    expected = network(image, *parts, [1, 2, 3, 4], "reflect")
    for task in ("regression", "segmentation"):
        checkpoint, _ = import_model(path, task=task)
        np.testing.assert_allclose(predict(checkpoint, image), expected, rtol=1e-4, atol=1e-4)
        assert len(checkpoint.model.labels) == (3 if task == "segmentation" else 0)


def test_the_command_writes_a_model_that_predict_takes(cli, tmp_path):
    parts = random_network(1, 1, 3, 1)
    path = write_msd_pytorch(tmp_path / "a.torch", parts, scaling([[0.5]], [1.0]), IDENTITY)
    model = tmp_path / "new" / "a.pt"
    result = cli("import", path, "-o", model, "--dilations", "1,2,4")
    assert (result.code, result.out) == (0, f"{model}\n")
    assert "msd_pytorch" in result.err and "warning" not in result.err
    image = rng.normal(0, 1, (8, 9)).astype(np.float32)
    tifffile.imwrite(tmp_path / "image.tif", image)
    assert cli("predict", model, tmp_path / "image.tif", "-o", tmp_path / "out").code == 0
    expected = network(image[None] / 2 + 1, *parts, [1, 2, 4], "symmetric")[0]
    found = tifffile.imread(tmp_path / "out" / "image.tif")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert cli("info", model).code == 0
    again = cli("import", path, "-o", model)
    assert again == (2, "", f"error: {model}: already exists; choose another name or remove it\n")


def test_dilations_that_were_assumed_are_named(cli, tmp_path):
    parts = random_network(1, 1, 2, 1)
    path = write_msd_pytorch(tmp_path / "a.torch", parts, IDENTITY, IDENTITY)
    result = cli("import", path, "-o", tmp_path / "a.pt", "--json")
    assert result.code == 0
    expected = "warning: msd_pytorch does not save dilations; its default, 1 to 10, is assumed"
    assert expected in result.err
    assert '"dilations": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]' in result.out
    result = cli("import", path, "-o", tmp_path / "b.pt", "--dilations", "1,x")
    assert result == (2, "", "error: --dilations: got '1,x'; expected numbers such as 1,2,4,8\n")
    result = cli("import", path, "-o", tmp_path / "b.pt", "--data-range", "0")
    assert result == (2, "", "error: --data-range: got 0; expected a number above 0\n")


def test_a_layer_that_turns_signs_gives_spreads_above_0(tmp_path, cli):
    scales = {"gam_in": [-2.0], "off_in": [1.0], "gam_out": [0.0], "off_out": [0.0]}
    path = write_msdnet(tmp_path / "a.h5", random_network(1, 1, 3, 1), [1, 2, 3], scales)
    normalisation = import_model(path)[0].model.normalisation
    assert (normalisation.input_std, normalisation.target_std) == ((0.5,), (1.0,))
    assert cli("import", path, "-o", tmp_path / "a.pt").code == 0
    assert cli("info", tmp_path / "a.pt").code == 0
