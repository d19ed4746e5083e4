"""What a check finds out about data."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from msdtool.check import check
from msdtool.config import load_config
from msdtool.errors import InputError

from .helpers import (
    LABELS,
    smooth_image,
    write_experiment,
    write_image,
    write_labelled_pairs,
    write_noisy_pairs,
    write_stack,
)


def report(tmp_path, data, **sections):
    return check(load_config(write_experiment(tmp_path / "a.yaml", {"data": data, **sections})))


@pytest.fixture
def noisy(tmp_path):
    return {
        "train": write_noisy_pairs(tmp_path / "t", 4),
        "validation": write_noisy_pairs(tmp_path / "v", 2, seed=1),
    }


@pytest.fixture
def labelled(tmp_path):
    return {"train": write_labelled_pairs(tmp_path / "t", 3), "labels": LABELS}


def replace(folder, number, image):
    write_image(Path(folder, f"image_{number:03}.tif"), image)


def test_good_data_has_facts_and_no_problems(tmp_path, noisy):
    found = report(tmp_path, noisy)
    assert (found.problems, found.warnings, found.label_counts) == ([], [], {})
    names = [(name, kind) for name in ("train", "validation") for kind in ("input", "target")]
    assert list(found.stacks) == names
    images = [tifffile.imread(f"{noisy['train']['input']}/image_00{k}.tif") for k in range(4)]
    facts = found.stacks["train", "input"]
    assert (facts.count, facts.shapes, facts.dtypes) == (4, {(1, 20, 24): 4}, {"float32": 4})
    assert (facts.minimum, facts.maximum) == (np.min(images), np.max(images))
    assert facts.mean == pytest.approx(np.mean(images, dtype=np.float64))


def test_the_first_pairs_are_shown(tmp_path, noisy):
    (first, *others) = report(tmp_path, noisy).pairs["train"]
    assert first == tuple(f"{noisy['train'][kind]}/image_000.tif" for kind in ("input", "target"))
    assert len(others) == 2


def test_every_pair_is_reported_before_it_is_read(tmp_path, noisy):
    reported = []
    config = load_config(write_experiment(tmp_path / "a.yaml", {"data": noisy}))
    check(config, lambda *place: reported.append(place))
    assert reported == [(k, 4, f"{noisy['train']['input']}/image_00{k}.tif") for k in range(4)] + [
        (k, 2, f"{noisy['validation']['input']}/image_00{k}.tif") for k in range(2)
    ]


def test_a_held_out_fraction_is_checked_apart(tmp_path, noisy):
    found = report(tmp_path, {"train": noisy["train"], "validation": {"fraction": 0.25}})
    assert found.stacks["train", "input"].count == 3
    assert found.stacks["validation", "input"].count == 1


def test_labels_are_counted_by_value(tmp_path, labelled):
    found = report(tmp_path, {**labelled, "ignore": 3}, task="segmentation")
    images = [tifffile.imread(path) for path in sorted((tmp_path / "t" / "labels").iterdir())]
    assert found.label_counts == {v: sum(int((a == v).sum()) for a in images) for v in LABELS}
    assert not found.problems and not found.warnings


def test_the_memory_of_a_step_covers_what_the_network_keeps(tmp_path, noisy):
    """Two buffers, activations and gradients, of all channels in float32."""
    network = {"depth": 7, "width": 3, "dilations": [1]}
    pixels = 20 * 24
    for data, count in ((noisy, pixels), ({**noisy, "crop": [10, 12]}, 120)):
        found = report(tmp_path, data, network=network, training={"batch_size": 2})
        buffers = 2 * 2 * 4 * (1 + 7 * 3) * count
        assert buffers <= found.memory_bytes <= buffers + 2**27


PROBLEMS = {
    "nan": (lambda a: np.where(a == a.max(), np.nan, a), "input",
            "image_001.tif: 1 of 480 values are NaN or infinite"),
    "infinite target": (lambda a: np.full_like(a, -np.inf), "target",
                        "image_001.tif: 480 of 480 values are NaN or infinite"),
    "size": (lambda a: a[1:], "target", "image_001.tif is 20 x 24 pixels, its target "),
    "channels": (lambda a: np.stack([a] * 2), "input", "input images have 1 and 2 channels; all "
                 "need the same number, or set data.collapse_channels: true"),
    "complex": (lambda a: a.astype(np.complex64), "input",
                "image_001.tif: pixels of type complex64 are not real numbers"),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_training_would_fail_on_is_a_problem(tmp_path, noisy, name):
    change, kind, message = PROBLEMS[name]
    folder = noisy["train"][kind]
    replace(folder, 1, change(tifffile.imread(f"{folder}/image_001.tif")))
    (problem,) = report(tmp_path, noisy).problems
    assert message in problem


def test_different_problems_are_listed_up_to_ten(tmp_path, labelled):
    labelled["train"] = write_labelled_pairs(tmp_path / "t", 13)
    for number in range(12):
        wrong = np.full((20, 24), 10 + number, np.uint8)
        replace(labelled["train"]["target"], number, wrong)
    problems = report(tmp_path, labelled, task="segmentation").problems
    assert len(problems) == 11
    assert all(f"image_{number:03}.tif: found" in problems[number] for number in range(10))
    assert problems[10] == "... and 2 more of train"


def test_equal_findings_are_summed_up_and_wrong_labels_have_no_histogram(tmp_path, labelled):
    labelled["train"] = write_labelled_pairs(tmp_path / "t", 14)
    for number in range(2, 11):
        wrong = np.zeros((20, 24), np.uint8)
        wrong[0, :number] = 128
        replace(labelled["train"]["target"], number, wrong)
        replace(labelled["train"]["input"], number, np.ones((20, 24), np.float32))
    found = report(tmp_path, labelled, task="segmentation")
    folders = labelled["train"]
    (problem,) = found.problems
    assert problem.startswith(
        f"9 of 14 train pairs, such as {folders['target']}/image_002.tif: found the value 128 (2 "
        "pixels); data.labels allows "
    )
    assert found.warnings == [
        f"9 of 28 train images, such as {folders['input']}/image_002.tif: every pixel has the "
        "value 1"
    ]
    assert found.label_counts == {}


def test_opacity_is_asked_about_unless_it_is_left_out(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("input", "target"):
        (tmp_path / kind).mkdir()
        for number in range(2):
            pixels = rng.integers(0, 256, (20, 24, 4), np.uint8)
            Image.fromarray(pixels).save(tmp_path / kind / f"{number}.png")
    data = {"train": {kind: str(tmp_path / kind) for kind in ("input", "target")}}
    found = report(tmp_path, data)
    assert [text.split(": channel 3 (from 0) is opacity")[0] for text in found.warnings] == [
        f"4 of 4 train images, such as {tmp_path}/input/0.png"
    ]
    assert report(tmp_path, {**data, "collapse_channels": True}).warnings == []


def test_channels_of_the_network_include_the_slices_of_a_slab(tmp_path, noisy):
    found = report(tmp_path, {**noisy, "slab": 2})
    assert (found.input_channels, found.output_channels, found.slices) == (5, 1, 5)


def test_values_outside_a_mask_are_not_a_problem(tmp_path, noisy):
    target = tifffile.imread(f"{noisy['train']['target']}/image_001.tif")
    target[0] = np.nan
    replace(noisy["train"]["target"], 1, target)
    mask = np.isfinite(target).astype(np.uint8)
    noisy["train"]["mask"] = str(write_stack(tmp_path / "mask", [mask] * 4))
    assert report(tmp_path, noisy).problems == []


def test_pixels_that_never_count_are_a_problem(tmp_path, noisy):
    none = [np.zeros((20, 24), np.uint8)] * 4
    noisy["train"]["mask"] = str(write_stack(tmp_path / "mask", none))
    expected = "no pixel of the training targets counts; look at data.train.mask"
    assert report(tmp_path, noisy).problems == [expected]


def test_validation_pixels_that_never_count_are_a_problem(tmp_path, noisy):
    none = [np.zeros((20, 24), np.uint8)] * 4
    mask = str(write_stack(tmp_path / "mask", none))
    data = {**noisy, "validation": {**noisy["train"], "mask": mask}}
    expected = "no pixel of the validation targets counts; look at data.validation.mask"
    assert report(tmp_path, data).problems == [expected]


def test_labels_that_are_all_ignored_are_a_problem(tmp_path, labelled):
    for number in range(3):
        replace(labelled["train"]["target"], number, np.full((20, 24), 9, np.uint8))
    found = report(tmp_path, {**labelled, "ignore": 9}, task="segmentation")
    assert found.problems == [
        "no pixel of the training targets counts; look at data.ignore and data.train.mask"
    ]


def test_an_absent_label_is_a_warning(tmp_path, labelled):
    found = report(tmp_path, {**labelled, "labels": [*LABELS, 3, 4]}, task="segmentation")
    expected = "the training targets have no pixel with the label 3, 4"
    assert (found.warnings, found.problems) == ([expected], [])


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, bool])
def test_a_constant_image_is_a_warning(tmp_path, noisy, dtype):
    replace(noisy["train"]["input"], 2, np.ones((20, 24), dtype))
    found = report(tmp_path, noisy)
    expected = f"{noisy['train']['input']}/image_002.tif: every pixel has the value 1"
    assert (found.warnings, found.problems) == ([expected], [])


def test_names_that_differ_are_a_warning(tmp_path, noisy):
    folder = tmp_path / "t" / "clean"
    (folder / "image_003.tif").rename(folder / "image_004.tif")
    (warning,) = report(tmp_path, noisy).warnings
    assert warning == (
        "train: in 1 pairs the names disagree, such as image_003.tif and image_004.tif; files are "
        "paired in natural order, is one missing?"
    )


def repeats(folder, shift):
    """Noisy repeats of five objects; the second stack starts with another object."""
    rng = np.random.default_rng(0)
    clean = [smooth_image((20, 24), rng) for _ in range(5)]
    first, second = (
        [(image + rng.normal(0, 1, image.shape)).astype(np.float32) for image in images]
        for images in (clean, [*clean[shift:], *clean[:shift]])
    )
    return [
        str(write_stack(folder / name, images)) for name, images in (("a", first), ("b", second))
    ]


@pytest.mark.parametrize("shift", [0, 1])
def test_repeats_of_different_objects_are_a_warning(tmp_path, shift):
    first, second = repeats(tmp_path, shift)
    swapped = {"train": {"input": first, "target": second, "swap": True}}
    for data, kinds in (
        (swapped, "input and target"),
        ({"train": {"splits": [first, second]}}, "split 1 and split 2"),
    ):
        found = report(tmp_path, data).warnings
        assert len(found) == shift
        assert all(f"train: the {kinds} of an image are no more alike (" in w for w in found)


def test_sizes_that_fit_no_crop_batch_or_dilation_are_problems(tmp_path, noisy):
    for kind in ("input", "target"):
        replace(noisy["train"][kind], 2, np.eye(5, 30, dtype=np.float32))
    batch = {"batch_size": 2}
    assert report(tmp_path, noisy).problems == []
    assert report(tmp_path, noisy, training=batch).problems == [
        "training images have 2 sizes, which need training.batch_size: 1, or data.crop"
    ]
    assert report(tmp_path, {**noisy, "crop": [5, 20]}, training=batch).problems == []
    assert report(tmp_path, {**noisy, "crop": [6, 20]}).problems == [
        "1 of 4 training images are smaller than data.crop 6 x 20, such as "
        f"{noisy['train']['input']}/image_002.tif with 5 x 30 pixels; the largest crop that fits "
        "all is [5, 24]"
    ]
    (problem,) = report(tmp_path, noisy, network={"dilations": [1, 6]}).problems
    assert problem == (
        f"{noisy['train']['input']}/image_002.tif: dilation 6 is too large for an image of size "
        "5: symmetric padding allows at most 5; choose smaller network.dilations"
    )


def test_missing_files_leave_nothing_to_check(tmp_path, noisy):
    (tmp_path / "t" / "clean" / "image_003.tif").unlink()
    with pytest.raises(InputError, match="found 4 input images"):
        report(tmp_path, noisy)


def test_volumes_are_checked(tmp_path):
    data = {"train": write_noisy_pairs(tmp_path / "t", 2, shape=(4, 8, 6))}
    found = report(tmp_path, data, network={"ndim": 3, "depth": 2, "dilations": [1, 2]})
    assert found.problems == []
    assert found.stacks["train", "input"].shapes == {(1, 4, 8, 6): 2}


def test_a_report_is_plain_data(tmp_path, noisy):
    found = report(tmp_path, noisy).to_dict()
    facts = found["stacks"]["train input"]
    assert (facts["count"], facts["shapes"]) == (4, {"1 x 20 x 24": 4})


def test_volumes_are_looked_at_block_by_block(tmp_path, monkeypatch):
    data = {
        "train": write_noisy_pairs(tmp_path / "t", 1, shape=(9, 8, 6)),
        "validation": {"slices": [6, 9]},
        "crop": [7, 8, 6],
    }
    network = {"ndim": 3, "depth": 2, "dilations": [1, 2]}
    whole = report(tmp_path, data, network=network)
    monkeypatch.setattr("msdtool.check.examine.BLOCK_PIXELS", 100)
    found = report(tmp_path, data, network=network)
    volume = tifffile.imread(f"{data['train']['input']}/image_000.tif")
    facts = found.stacks["train", "input"]
    assert (facts.minimum, facts.maximum) == (volume.min(), volume.max())
    assert facts.mean == pytest.approx(volume.mean(dtype=np.float64))
    assert facts.shapes == whole.stacks["train", "input"].shapes == {(1, 9, 8, 6): 1}
    # What slices leave of a volume is smaller than the volume.
    assert (
        found.problems
        == whole.problems
        == [
            "1 of 1 training images are smaller than data.crop 7 x 8 x 6, such as "
            f"{data['train']['input']}/image_000.tif[0:6, 0:8, 0:6] with 6 x 8 x 6 pixels; the "
            "largest crop that fits all is [6, 8, 6]"
        ]
    )


def test_what_files_say_about_their_values_is_told_once(tmp_path, noisy):
    for number in (1, 3):
        path = Path(noisy["train"]["input"], f"image_{number:03}.tif")
        tags = [(42113, 2, 6, "-9999", True)]
        tifffile.imwrite(path, tifffile.imread(path), metadata=None, extratags=tags)
    found = report(tmp_path, noisy)
    note = "the value -9999 stands for missing pixels (the tag GDAL_NODATA)"
    assert found.warnings == [
        f"2 of 8 train images, such as {noisy['train']['input']}/image_001.tif: {note}"
    ]
    assert found.stacks["train", "input"].notes == [note]


@pytest.mark.parametrize(
    "how, text",
    [
        ({"method": "none"}, "none"),
        ({"method": "range", "range": [0, 50]}, "0 and 50 become 0 and 1"),
    ],
)
def test_the_normalisation_is_told(tmp_path, noisy, how, text):
    found = report(tmp_path, {**noisy, "normalisation": how})
    assert (found.normalisation, found.warnings, found.problems) == (text, [], [])


def test_the_mean_of_the_training_inputs_is_told(tmp_path, noisy):
    mean = np.mean([image.mean(dtype=float) for image in read_inputs(noisy)])
    assert report(tmp_path, noisy).normalisation == (
        "mean 0 and standard deviation 1, of the training set: training inputs have the mean "
        f"{mean:.6g}"
    )


def read_inputs(noisy):
    return [tifffile.imread(f"{noisy['train']['input']}/image_00{k}.tif") for k in range(4)]


def test_with_the_levels_that_images_are_scaled_by(tmp_path, noisy):
    images = np.array(read_inputs(noisy), np.float64)
    means, stds = images.mean((1, 2)), images.std((1, 2))
    found = report(tmp_path, {**noisy, "normalisation": {"per": "image"}})
    assert found.normalisation == (
        "mean 0 and standard deviation 1, of each image: "
        f"subtract {means.min():.6g} to {means.max():.6g}, "
        f"divide by {stds.min():.6g} to {stds.max():.6g}"
    )
    found = report(tmp_path, {**noisy, "normalisation": {"method": "percentile"}})
    low, high = np.percentile(images, [1, 99])
    assert found.normalisation.endswith(f": subtract {low:.6g}, divide by {high - low:.6g}")


def test_values_beyond_the_range_are_warned_of(tmp_path, noisy):
    how = {"method": "range", "range": [0, 1], "target_range": [0, 100]}
    images = read_inputs(noisy)
    assert report(tmp_path, {**noisy, "normalisation": how}).warnings == [
        f"training inputs have values from {np.min(images):.6g} to {np.max(images):.6g}, and "
        "data.normalisation takes 0 to 1 for 0 to 1"
    ]


def test_images_that_cannot_be_scaled_are_problems(tmp_path, noisy):
    replace(noisy["train"]["input"], 2, np.full((20, 24), 4, np.float32))
    (problem,) = report(tmp_path, {**noisy, "normalisation": {"per": "image"}}).problems
    assert "image_002.tif: every pixel has the value 4, so that it has no contrast" in problem
    for number in range(4):
        replace(noisy["train"]["input"], number, np.eye(20, 24, dtype=np.float32))
    how = {"method": "percentile", "percentiles": [1, 50]}
    (problem,) = report(tmp_path, {**noisy, "normalisation": how}).problems
    assert problem.startswith("data.normalisation: the percentiles 1 and 50 of the training inputs")
