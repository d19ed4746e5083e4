"""Networks scale images as their config says, by levels that numpy computes in float64."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from msdtool.config import load_config
from msdtool.data.build import build_datasets, build_samples
from msdtool.errors import ConfigError, InputError, RunDirectoryError
from msdtool.predict import Predictor
from msdtool.runs.checkpoint import load_checkpoint
from msdtool.scaling import Scaling
from msdtool.train.normalise import measure_normalisation
from tests.helpers import (
    LABELS,
    smooth_image,
    write_experiment,
    write_labelled_pairs,
    write_noisy_pairs,
    write_stack,
)
from tests.train.running import check_same, finish, open_run, plain_rows
from tests.train.test_distributed_runs import train_run

GAINS = [1.0, 4.0, 0.25, 1024.0, 2.0, 0.5, 8.0]
OFFSETS = [0.0, 64.0, -8.0, 4096.0, 0.0, 256.0, 16.0]
IMAGE = {"per": "image"}


def write_pairs(folder, count=4, seed=0, changed=True):
    """Noisy and clean images on 2^-10; each pair multiplied and shifted by numbers of its own."""
    rng = np.random.default_rng(seed)
    pairs = {"input": [], "target": []}
    for gain, offset in itertools.islice(zip(GAINS, OFFSETS, strict=True), count):
        clean = np.round(smooth_image((14, 16), rng) * 1024) / 1024
        noisy = np.round((clean + rng.normal(0, 1, clean.shape)) * 1024) / 1024
        for kind, image in (("input", noisy), ("target", clean)):
            own = gain * image + offset if changed else image
            pairs[kind].append(own.astype(np.float32))
    return {kind: str(write_stack(folder / kind, shown)) for kind, shown in pairs.items()}


def read(folder):
    return np.stack([tifffile.imread(file) for file in sorted(Path(folder).iterdir())]).astype(
        float
    )


def experiment(path, normalisation, data, **sections):
    content = {"data": {**data, "normalisation": normalisation}, **sections}
    return write_experiment(path / "config.yaml", content)


def layers(network):
    """What each scaling layer does: (shift, scale) of inputs and of outputs."""
    state = {name: value.double().flatten().numpy() for name, value in network.state_dict().items()}
    weight, bias = state["scale_in.weight"], state["scale_in.bias"]
    return (-bias / weight, 1 / weight), (state["scale_out.bias"], state["scale_out.weight"])


@pytest.mark.parametrize(
    "how, expected",
    [
        ({}, lambda x: (x.mean(), x.std())),
        (
            {"method": "percentile", "percentiles": [2, 95]},
            lambda x: (np.percentile(x, 2), np.subtract(*np.percentile(x, [95, 2]))),
        ),
        ({"method": "range", "range": [4, 20]}, lambda x: (4, 16)),
        ({"method": "none"}, lambda x: (0, 1)),
        (IMAGE, lambda x: (0, 1)),
    ],
)
def test_the_layers_of_a_network_have_the_levels_of_the_training_set(tmp_path, how, expected):
    data = write_noisy_pairs(tmp_path / "train", 5)
    run = open_run(experiment(tmp_path, how, {"train": data}))
    for kind, found in zip(("input", "target"), layers(run.network), strict=True):
        np.testing.assert_allclose(
            np.ravel(found), expected(read(data[kind])), rtol=2e-6, atol=1e-12
        )
    # Losses are in units of the targets' spread, whatever the network sees.
    assert run.record.normalisation.input_std == pytest.approx(
        [read(data["input"]).std() if how != IMAGE else 1], rel=1e-6
    )


def test_targets_may_have_a_range_of_their_own(tmp_path):
    data = write_noisy_pairs(tmp_path / "train", 2)
    how = {"method": "range", "range": [4, 20], "target_range": [-1, 1]}
    run = open_run(experiment(tmp_path, how, {"train": data}))
    np.testing.assert_allclose(np.ravel(layers(run.network)), [4, 16, -1, 2], rtol=1e-6)


def test_masked_target_pixels_change_no_percentile(tmp_path):
    data = write_noisy_pairs(tmp_path / "train", 3)
    rng = np.random.default_rng(0)
    masks = [(rng.random((20, 24)) < 0.5).astype(np.uint8) for _ in range(3)]
    data["mask"] = str(write_stack(tmp_path / "masks", masks))
    run = open_run(experiment(tmp_path, {"method": "percentile"}, {"train": data}))
    low, high = np.percentile(read(data["target"])[np.stack(masks) > 0], [1, 99])
    np.testing.assert_allclose(np.ravel(layers(run.network)[1]), [low, high - low], rtol=2e-6)


@pytest.mark.parametrize(
    "method, extra",
    [
        ("percentile", {}),
        ("mean_std", {"crop": 12, "augment": True}),
        ("mean_std", {"slab": 1}),
    ],
)
def test_the_brightness_and_contrast_of_an_image_mean_nothing(tmp_path, method, extra):
    rows = []
    for changed in (False, True):
        folder = tmp_path / str(changed)
        data = {
            "train": write_pairs(folder / "train", 4, changed=changed),
            "validation": write_pairs(folder / "validation", 1, 1, changed=False),
            **extra,
        }
        # A slab's slices keep their relation to the central one, so all must change alike.
        if extra == {"slab": 1} and changed:
            for kind in ("input", "target"):
                images = 4 * read(tmp_path / "False" / "train" / kind) + 64
                write_stack(folder / "train" / kind, images.astype(np.float32))
        how = {"method": method, "per": "image"}
        run = open_run(experiment(folder, how, data), "training.epochs=2")
        rows.append(plain_rows(finish(run)))
    for plain, other in zip(*rows, strict=True):
        for key in ("train_loss", "validation_loss"):
            assert other[key] == pytest.approx(plain[key], rel=1e-4)
    assert rows[0][-1]["train_loss"] < rows[0][0]["train_loss"]


def test_losses_and_metrics_are_those_of_their_formulas(tmp_path):
    """The untrained network outputs 0, which is the mean of the scaled image."""
    train, validation = write_pairs(tmp_path / "t"), write_pairs(tmp_path / "v", 2, 1)
    data = {"train": train, "validation": validation}
    run = open_run(
        experiment(tmp_path, IMAGE, data), "training.learning_rate=1e-30", "training.warmup=0"
    )
    (row, *_) = plain_rows(finish(run))

    def own(data):
        shift = read(data["input"]).mean((1, 2), keepdims=True)
        return shift, read(data["input"]).std((1, 2), keepdims=True)

    shift, scale = own(train)
    unit = ((read(train["target"]) - shift) / scale).std()
    for name, part in (("train_loss", train), ("validation_loss", validation)):
        shift, scale = own(part)
        expected = (((read(part["target"]) - shift) / scale / unit) ** 2).mean((1, 2)).mean()
        assert row[name] == pytest.approx(expected, rel=1e-5)
    shift, _ = own(validation)
    data_range = np.ptp(read(train["target"]))
    errors = ((read(validation["target"]) - shift) ** 2).mean((1, 2))
    psnr = np.mean(10 * np.log10(data_range**2 / errors))
    assert row["psnr"] == pytest.approx(psnr, rel=1e-5)


@pytest.mark.parametrize("loss", ["L2+SSIM", "L1"])
def test_a_resumed_run_is_the_undisturbed_one(tmp_path, loss):
    data = {"train": write_pairs(tmp_path / "t"), "validation": write_pairs(tmp_path / "v", 2, 1)}
    config = experiment(tmp_path, IMAGE, {**data, "augment": True})
    settings = [f"training.loss={loss}", "training.epochs=2", "data.crop=12"]
    expected = finish(open_run(config, f"run.directory={tmp_path}/one", *settings))
    settings.append(f"run.directory={tmp_path}/two")
    events = open_run(config, *settings, "training.checkpoint_every=1.0e-9").events()
    for _ in range(7):
        next(events)
    events.close()
    check_same(finish(open_run(config, *settings, resume=True)), expected)


def test_processes_share_the_figures(team, tmp_path):
    data = {
        "train": write_pairs(tmp_path / "t", 5),
        "validation": write_pairs(tmp_path / "v", 3, 1),
    }
    config = experiment(tmp_path, IMAGE, {**data, "crop": 12})
    settings = ["training.batch_size=2", "training.epochs=1"]
    one = finish(open_run(config, f"run.directory={tmp_path}/one", *settings))
    team(train_run, config, [f"run.directory={tmp_path}/two", *settings])
    found = load_checkpoint(tmp_path / "two" / "checkpoints" / "last.pt").model
    expected = load_checkpoint(one.last).model
    assert found.scaling == expected.scaling
    assert found.normalisation.own_range == expected.normalisation.own_range
    for name, tensor in expected.state.items():
        torch.testing.assert_close(found.state[name], tensor, rtol=1e-4, atol=1e-6)


def percentiles_of(processes, config):
    config = load_config(config, [])
    return measure_normalisation(config, build_datasets(config)[0], processes=processes)


def test_processes_share_the_counting(team, tmp_path):
    data = {"train": write_pairs(tmp_path / "t", 5)}
    config = experiment(tmp_path, {"method": "percentile"}, data)
    low, high = np.percentile(read(data["train"]["input"]), [1, 99])
    for found in team(percentiles_of, config):
        np.testing.assert_allclose(np.ravel(found.input), [low, high - low], rtol=1e-12)


def test_a_segmentation_scales_its_inputs_alone(tmp_path):
    data = {"train": write_labelled_pairs(tmp_path / "t", 3), "labels": LABELS}
    config = experiment(tmp_path, IMAGE, data, task="segmentation")
    directory = finish(open_run(config))
    model = load_checkpoint(directory.best).model
    assert model.scaling == Scaling(per="image")
    image = torch.from_numpy(tifffile.imread(f"{data['train']['input']}/image_000.tif"))[None]
    predictor = Predictor(model, "cpu")
    torch.testing.assert_close(
        predictor(image), predictor(256 * image + 1024), rtol=1e-4, atol=1e-4
    )


def test_targets_of_another_quantity_keep_their_unit(tmp_path):
    train = write_pairs(tmp_path / "t")
    train["target"] = write_pairs(tmp_path / "plain", changed=False)["target"]
    run = open_run(experiment(tmp_path, {**IMAGE, "target": "dataset"}, {"train": train}))
    values = read(train["target"])
    expected = [0, 1, values.mean(), values.std()]
    np.testing.assert_allclose(np.ravel(layers(run.network)), expected, rtol=1e-5, atol=1e-12)
    assert run.record.normalisation.own_range == 0


def test_noise_is_added_in_units_of_each_image(tmp_path):
    data = {"train": write_pairs(tmp_path / "t"), "intensity": {"gaussian_noise": [0.5, 0.5]}}
    config = load_config(experiment(tmp_path, IMAGE, data), [])
    pairs, _ = build_datasets(config)
    samples = build_samples(config, pairs, [1.0])
    for index, image in enumerate(read(data["train"]["input"])):
        noise = samples.sample((0, index)).input[0].double().numpy() - image
        assert noise.std() == pytest.approx(0.5 * image.std(), rel=0.2)


def test_an_image_without_contrast_ends_training_before_it_makes_a_folder(tmp_path):
    data = write_pairs(tmp_path / "t")
    tifffile.imwrite(f"{data['input']}/image_002.tif", np.full((14, 16), 3, np.float32))
    with pytest.raises(InputError, match=r"image_002.tif: every pixel has the value 3"):
        open_run(experiment(tmp_path, IMAGE, {"train": data}))
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_equal_percentiles_are_refused(tmp_path):
    data = write_pairs(tmp_path / "t")
    how = {"method": "percentile", "percentiles": [1, 50]}
    mostly = np.zeros((4, 14, 16), np.float32)
    mostly[:, 0] = 1
    write_stack(tmp_path / "t" / "input", mostly)
    with pytest.raises(InputError, match="percentiles 1 and 50 of the training inputs are both 0"):
        open_run(experiment(tmp_path, how, {"train": data}))


def test_another_normalisation_is_another_run(tmp_path):
    data = {"train": write_pairs(tmp_path / "t")}
    config = experiment(tmp_path, {}, data)
    finish(open_run(config, "training.epochs=1"))
    with pytest.raises(RunDirectoryError, match=r"data\.normalisation\.per"):
        open_run(config, "data.normalisation.per=image", "training.epochs=2", resume=True)


def test_a_tuned_network_keeps_its_normalisation_or_measures_anew(tmp_path):
    data = {"train": write_pairs(tmp_path / "t")}
    first = finish(open_run(experiment(tmp_path, IMAGE, data), "training.epochs=1"))
    config = experiment(tmp_path, {}, data)
    tuning = [f"training.initial={first.path}", f"run.directory={tmp_path}/tuned"]
    keep = "training.initial_normalisation=keep"
    with pytest.raises(ConfigError, match=r"data\.normalisation.*of the training set.*each image"):
        open_run(config, *tuning, keep)
    run = open_run(config, *tuning)
    assert layers(run.network)[0][1] == pytest.approx(read(data["train"]["input"]).std(), rel=1e-5)
    run.directory.release()
    run = open_run(config, *tuning, keep, "data.normalisation.per=image")
    assert layers(run.network)[0][1] == pytest.approx(1)


def test_checkpoints_that_say_nothing_are_of_the_usual_way(tmp_path):
    data = {"train": write_pairs(tmp_path / "t")}
    best = finish(open_run(experiment(tmp_path, {}, data), "training.epochs=1")).best
    content = torch.load(best, weights_only=True)
    assert "scaling" not in content["model"]
    assert "own_range" not in content["model"]["normalisation"]
    assert load_checkpoint(best).model.scaling == Scaling()
