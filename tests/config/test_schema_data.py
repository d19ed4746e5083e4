"""The `data` section: what it allows, and what its keys demand of each other."""

import re

import pytest

from tests.config.test_schema import refusal, regression, segmentation
from tests.helpers import parse_config


@pytest.mark.parametrize(("labels", "values"), [("3", [0, 1, 2]), ("[255, 0]", [255, 0])])
def test_labels_keep_their_order(labels, values):
    config = parse_config(segmentation(f"labels: {labels}"))
    assert config.label_values == values
    assert config.num_labels == len(values)


@pytest.mark.parametrize(
    ("crop", "ndim", "size"),
    [("32", 2, (32, 32)), ("32", 3, (32, 32, 32)), ("[16, 32]", 2, (16, 32))],
)
def test_a_crop_has_a_size_per_axis(crop, ndim, size):
    assert parse_config(regression(f"crop: {crop}", f"network: {{ndim: {ndim}}}")).crop_size == size


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "x: data: missing: takes the keys train, validation, labels"),
        ("data:", "x:2: data.train: missing: what to train on: keys input and target, or splits"),
        ("data: 3", "x:2: data: got 3; expected keys below it: train, validation"),
        ("data: {train: {input: a}}", "x:2: data.train.target: missing: target images, paired"),
        ("data: {train: {input: [], target: b}}",
         "x:2: data.train.input: got []; expected a path, a glob pattern, or a list of these"),
        ("data: {train: {input: a, target: b}, validation: c}",
         "x:2: data.validation: got 'c'; expected keys below it: input, target, mask, splits"),
    ],
)  # fmt: skip
def test_data_that_is_not_named_is_missed(data, message):
    (found,) = refusal(f"task: regression\n{data}")
    assert found.startswith(message)


ONE_SOURCE = "give one of these: input and target; splits; fraction; slices"


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        ("{}", ONE_SOURCE),
        ("{input: c}", ONE_SOURCE),
        ("{fraction: 0.1, target: c}", ONE_SOURCE),
        ("{fraction: 0.1, slices: [1, 2]}", ONE_SOURCE),
        ("{splits: [a, b], input: c, target: d}", ONE_SOURCE),
        (
            "{fraction: 0.1, mask: c}",
            "held-out images use the mask of data.train; remove mask",
        ),
    ],
)
def test_validation_is_a_set_or_a_fraction(validation, message):
    assert refusal(regression(f"validation: {validation}")) == [f"x:2: data.validation: {message}"]


@pytest.mark.parametrize("fraction", ["0", "1", "-0.1", ".nan"])
def test_a_fraction_lies_between_0_and_1(fraction):
    (found,) = refusal(regression(f"validation: {{fraction: {fraction}}}"))
    assert re.match(r"x:2: data\.validation\.fraction: got .*; expected a (finite )?number", found)


WRONG_DATA = [
    ("train: {splits: [a]}", "data.train.splits: got ['a']; expected a list of two or more"),
    ("train: {splits: a}", "data.train.splits: got 'a'; expected a list of two or more"),
    ("train: {splits: [a, 3]}", "data.train.splits[1]: got 3; expected a path, a glob pattern"),
    ("train: {splits: [a, b], strategy: 2:X}",
     "data.train.strategy: got '2:X'; did you mean '1:X'? Allowed: X:1, 1:X"),
    ("augment: yes please", "data.augment: got 'yes please'; expected true, false or in_plane"),
    ("augment: 1", "data.augment: got 1; expected true, false or in_plane"),
    ("slab: -1", "data.slab: got -1; expected a number not less than 0"),
    ("fraction: 0", "data.fraction: got 0; expected a number greater than 0"),
    ("intensity: {gain: 2}", "data.intensity.gain: got 2; expected the minimum and the maximum, "
     "such as [-0.1, 0.1]"),
    ("intensity: {gain: [0, 1]}",
     "data.intensity.gain: got [0, 1]; expected a range above 0, such as [0.8, 1.25]"),
    ("intensity: {blur: [-1, 1]}",
     "data.intensity.blur: got [-1, 1]; expected a range not below 0, such as [0, 0.2]"),
    ("intensity: {offset: [1, 0]}", "data.intensity.offset: got [1, 0]; expected the minimum and"),
    ("intensity: {offset: [0, .nan]}", "data.intensity.offset: got [0, nan]; expected the"),
    ("intensity: {contrast: [0, 1]}", "data.intensity.contrast: unknown key; allowed: blur, gamma, "
     "gain, offset, poisson_noise, gaussian_noise"),
    ("geometry: {rotation: [-200, 0]}", "data.geometry.rotation: got [-200, 0]; expected a range "
     "within -180 to 180 degrees, such as [-15, 15]"),
    ("geometry: {rotation: 15}", "data.geometry.rotation: got 15; expected the minimum and the"),
    ("geometry: {scale: [0, 1]}",
     "data.geometry.scale: got [0, 1]; expected a range above 0, such as [0.8, 1.25]"),
    ("geometry: {elastic: [-1, 1]}", "data.geometry.elastic: got [-1, 1]; expected a range not "
     "below 0"),
    ("geometry: {elastic: [0, 1], elastic_sigma: 0}",
     "data.geometry.elastic_sigma: got 0; expected a number greater than 0"),
    ("geometry: {shear: [0, 1]}",
     "data.geometry.shear: unknown key; allowed: rotation, scale, elastic, elastic_sigma"),
    ("cut_out: [0, 1]",
     "data.cut_out: got [0, 1]; expected a range from 0 to below 1, such as [0, 0.25]"),
    ("cut_out: 0.5", "data.cut_out: got 0.5; expected the minimum and the maximum"),
    ("foreground: {}", "data.foreground.fraction: missing: fraction of the crops that contain a "
     "foreground pixel, 0 to 1"),
    ("foreground: {fraction: 2}", "data.foreground.fraction: got 2; expected a number not greater"),
    ("foreground: {fraction: 1, labels: []}",
     "data.foreground.labels: got []; expected a non-empty list"),
    *((f"validation: {{slices: {slices}}}", f"data.validation.slices: got {slices}; expected the "
       "first slice and the one after the last, such as [200, 256], or a list of such ranges")
      for slices in ("[1]", "[5, 5]", "[-2, 4]", "[[0, 1], 2]", "3", "[]")),
    ("validation: {slices: [[0, 3], [2, 5]]}", "data.validation.slices: got [[0, 3], [2, 5]]; "
     "expected ranges that do not overlap"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), WRONG_DATA, ids=[line for line, _ in WRONG_DATA])
def test_wrong_data_keys_are_refused_in_words(line, message):
    text = f"task: regression\ndata: {{{line}}}" if line.startswith("train") else regression(line)
    (found,) = refusal(text)
    assert found.startswith(f"x:2: {message}")


def test_slices_are_a_range_or_several():
    for text in ("[3, 5]", "[[3, 5]]"):
        config = parse_config(regression(f"validation: {{slices: {text}}}"))
        assert config.data.validation.slices == [[3, 5]]
    config = parse_config(regression("validation: {slices: [[3, 5], [0, 3]]}"))
    assert config.data.validation.slices == [[0, 3], [3, 5]]


def test_patches_overlap_by_a_quarter_unless_told():
    text = "validation: {fraction: 0.5, patch: [48, 32]}"
    for validation, overlap in ((text, 8), (text.replace("}", ", overlap: 0}"), 0)):
        assert parse_config(regression(validation)).data.validation.patch_overlap(2) == overlap
