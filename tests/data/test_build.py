"""A config to data sets."""

import numpy as np
import pytest

from msdtool import InputError
from msdtool.config import load_config
from msdtool.data.build import build_batches, build_datasets, build_samples
from msdtool.data.cut_out import CutOut
from msdtool.data.geometry import Geometry

from ..helpers import write_experiment, write_image, write_labelled_pairs, write_noisy_pairs


def experiment(tmp_path, data, **sections):
    return load_config(write_experiment(tmp_path / "a.yaml", {"data": data, **sections}))


def files(pairs):
    return [pairs.name(index) for index in range(len(pairs))]


def test_a_validation_set_of_its_own(tmp_path):
    data = {"train": write_noisy_pairs(tmp_path / "t", 3)}
    data["validation"] = write_noisy_pairs(tmp_path / "v", 2)
    train, validation = build_datasets(experiment(tmp_path, data))
    assert files(train) == [f"{tmp_path}/t/noisy/image_00{k}.tif" for k in range(3)]
    assert files(validation) == [f"{tmp_path}/v/noisy/image_00{k}.tif" for k in range(2)]


def test_targets_that_are_the_inputs_are_told_of(tmp_path, caplog):
    train = write_noisy_pairs(tmp_path / "t", 3)
    build_datasets(experiment(tmp_path, {"train": train}))
    blind = {"input": train["input"], "blind_spot": {}}
    build_datasets(experiment(tmp_path, {"train": blind}))
    assert not caplog.records
    build_datasets(experiment(tmp_path, {"train": train | {"target": train["input"]}}))
    (record,) = caplog.records
    assert f"{tmp_path}/t/noisy/image_000.tif: is both input and target" in record.getMessage()


def test_without_validation_there_is_none(tmp_path):
    data = {"train": write_noisy_pairs(tmp_path / "t", 3)}
    assert build_datasets(experiment(tmp_path, data))[1] is None


@pytest.mark.parametrize(
    ("fraction", "count", "held_out"), [(0.3, 10, 3), (0.01, 10, 1), (0.99, 10, 9), (0.5, 2, 1)]
)
def test_a_fraction_is_held_out(tmp_path, fraction, count, held_out):
    pairs = write_noisy_pairs(tmp_path / "t", count, shape=(3, 3))
    data = {"train": pairs, "validation": {"fraction": fraction}}
    train, validation = build_datasets(experiment(tmp_path, data))
    assert len(validation) == held_out
    everything = [f"{tmp_path}/t/noisy/image_{k:03}.tif" for k in range(count)]
    assert sorted(files(train) + files(validation)) == everything
    again = build_datasets(experiment(tmp_path, data))
    assert [files(part) for part in again] == [files(train), files(validation)]


def test_the_seed_chooses_what_is_held_out(tmp_path):
    data = {"train": write_noisy_pairs(tmp_path / "t", 20, shape=(3, 3))}
    data["validation"] = {"fraction": 0.5}
    chosen = {
        tuple(files(build_datasets(experiment(tmp_path, data, training={"seed": seed}))[1]))
        for seed in range(4)
    }
    assert len(chosen) == 4


def test_one_pair_cannot_be_divided(tmp_path):
    data = {"train": write_noisy_pairs(tmp_path / "t", 1), "validation": {"fraction": 0.5}}
    with pytest.raises(InputError) as error:
        build_datasets(experiment(tmp_path, data))
    assert error.value.message == (
        "data.validation.fraction needs at least 2 training images, found 1; for a single volume, "
        "hold out data.validation.slices"
    )


def test_every_option_reaches_the_data(tmp_path):
    data = {
        "train": write_labelled_pairs(tmp_path / "t", 4),
        "labels": [0, 255],
        "ignore": 127,
        "crop": [8, 10],
        "augment": True,
        "cache": True,
        "collapse_channels": True,
    }
    training = {"batch_size": 3, "epochs": 2, "seed": 9}
    config = experiment(tmp_path, data, task="segmentation", training=training)
    train, _ = build_datasets(config)
    assert set(train[0][1].unique().tolist()) == {0, 1, -100}
    assert train.inputs.collapse_channels and train.num_labels == 2
    for path in [*train.inputs.paths, *train.targets.paths]:
        path.unlink()
    samples = build_samples(config, train, [2.0])
    assert samples.sample((0, 1)).input.shape == (1, 8, 10)
    assert (samples.seed, samples.augment, samples.keep_shape) == (9, True, True)
    batches = build_batches(config, len(train), 1)
    assert (batches.batches_per_epoch, len(batches), batches.seed) == (2, 3, 9)


def test_single_images_may_be_turned_on_their_side(tmp_path):
    config = experiment(tmp_path, {"train": write_noisy_pairs(tmp_path / "t", 2)})
    assert not build_samples(config, build_datasets(config)[0], [1.0]).keep_shape


def test_every_option_of_samples_reaches_them(tmp_path):
    data = {
        "train": write_labelled_pairs(tmp_path / "t", 5),
        "labels": [0, 127, 255],
        "slab": 1,
        "crop": 8,
        "crops_per_image": 3,
        "fraction": 0.5,
        "augment": True,
        "foreground": {"fraction": 0.4, "labels": [255]},
        "geometry": {"rotation": [-9, 9], "elastic": [0, 1], "elastic_sigma": 3.0},
        "intensity": {"gain": [0.5, 2], "gaussian_noise": [0, 0.3]},
        "cut_out": [0, 0.3],
        "validation": {"slices": [[0, 1]], "patch": [10, 12], "overlap": 3},
    }
    config = experiment(tmp_path, data, task="segmentation")
    train, validation = build_datasets(config)
    assert (len(train), len(validation)) == (2, 3 * 3)
    assert validation.sample(0).input.shape == (3, 10, 12)
    samples = build_samples(config, train, [2.0] * 3)
    assert (len(samples), samples.foreground_fraction, samples.foreground.labels) == (6, 0.4, [2])
    intensity = samples.intensity
    assert (intensity.gain, intensity.gaussian_noise, intensity.blur) == ((0.5, 2), (0, 0.3), None)
    assert list(intensity.unit) == [2.0] * 3
    assert samples.geometry == Geometry(rotation=(-9, 9), elastic=(0, 1), elastic_sigma=3.0)
    assert samples.cut_out == CutOut((0, 0.3))
    assert samples.sample((0, 5)).input.shape == (3, 8, 8)
    assert build_batches(config, len(train), 0).batches_per_epoch == 6


def test_foreground_is_all_but_the_first_label(tmp_path):
    data = {"train": write_labelled_pairs(tmp_path / "t", 1), "labels": [0, 127, 255], "crop": 8}
    config = experiment(tmp_path, {**data, "foreground": {"fraction": 1.0}}, task="segmentation")
    samples = build_samples(config, build_datasets(config)[0], [1.0])
    assert samples.foreground.labels == [1, 2]


def test_volumes_may_keep_their_slices(tmp_path):
    data = {"train": write_noisy_pairs(tmp_path / "t", 2, (12, 12, 12)), "augment": "in_plane"}
    data["geometry"] = {"scale": [0.9, 1.1], "in_plane": True}
    config = experiment(tmp_path, data, network={"depth": 2, "ndim": 3})
    samples = build_samples(config, build_datasets(config)[0], [1.0])
    assert samples.augment and samples.in_plane
    assert samples.geometry == Geometry(scale=(0.9, 1.1), in_plane=True)


def repeats(tmp_path, **keys):
    """Pairs that go both ways, of files that are held out together."""
    data = {"train": {**write_noisy_pairs(tmp_path / "t", 4, (5, 6)), "swap": True}, **keys}
    return experiment(tmp_path, data)


def test_swapped_pairs_show_each_image_as_input_and_as_target(tmp_path):
    train, _ = build_datasets(repeats(tmp_path))
    names = [(train.name(index), train.target_name(index)) for index in range(len(train))]
    files = [
        [f"{tmp_path}/t/{kind}/image_00{k}.tif" for kind in ("noisy", "clean")] for k in range(4)
    ]
    expected = [tuple(order) for pair in files for order in (pair[::-1], pair)]
    assert names == expected
    assert list(train.stacks()) == ["input", "target"]


def test_both_directions_of_a_pair_are_held_out_together(tmp_path):
    train, validation = build_datasets(repeats(tmp_path, validation={"fraction": 0.25}))
    assert (len(train), len(validation)) == (6, 2)
    assert {validation.name(0), validation.name(1)} == {
        validation.target_name(0),
        validation.target_name(1),
    }


def test_a_validation_set_of_its_own_is_not_swapped(tmp_path):
    clean = write_noisy_pairs(tmp_path / "v", 2)
    _, validation = build_datasets(repeats(tmp_path, validation=clean))
    assert files(validation) == [f"{tmp_path}/v/noisy/image_00{k}.tif" for k in range(2)]


def test_swapped_pairs_need_the_same_channels(tmp_path):
    config = repeats(tmp_path)
    path = tmp_path / "t" / "clean" / "image_000.tif"
    write_image(path, np.zeros((3, 5, 6), np.float32))
    train, _ = build_datasets(config)
    with pytest.raises(InputError, match=r"has 3 channels, .*noisy/image_000.tif has 1; each is"):
        train.sample(0)
