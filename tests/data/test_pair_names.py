"""Whether the names of paired files agree."""

from pathlib import Path

import numpy as np
import pytest

from msdtool import ImageDataset
from msdtool.data.pair_names import disagreeing_pairs, unpaired
from msdtool.errors import InputError

from ..helpers import write_image


def places(text, folder):
    return [Path(folder, f"{name}.tif") for name in text.split()]


@pytest.mark.parametrize(
    ("inputs", "targets"),
    [
        ("a_1 a_2", "b_1 b_2"),
        ("scan_003 scan_004", "3 4"),
        ("noisy_1_1 noisy_1_2", "1 2"),
        ("Berlin Paris", "Berlin Paris"),
        ("Berlin_noisy Paris_noisy", "clean_berlin clean_paris"),
        ("BerlinNoisy ParisNoisy", "Berlin Paris"),
        ("s1_noisy_t1 s1_noisy_t2 s2_noisy_t1", "s1_t1_clean s1_t2_clean s2_t1_clean"),
        ("cat_1 dog_2", "1 2"),
        ("2024-01-05_scan_7 2024-02-11_scan_8", "7 8"),
        ("case1/image case2/image", "case1/label case2/label"),
        ("run1/7 run1/8", "run5/7 run5/8"),
        ("größe_1 größe_2", "größe_1_x größe_2_x"),
        ("x_1 x_1 x_2", "y_1 y_1 y_2"),
        ("volume volume", "7 8"),
        ("a_5", "b_9"),
        ("s1_10ms s2_20ms", "s1_100ms s2_100ms"),
        ("volume_1 volume_1", "1 2"),
    ],
)
def test_names_that_agree(inputs, targets):
    assert disagreeing_pairs([places(inputs, "in"), places(targets, "out")]) == []


@pytest.mark.parametrize(
    ("inputs", "targets", "differing"),
    [
        ("a_1 a_3", "b_1 b_2", "a_3:b_2"),
        ("5 6", "6 7", "5:6 6:7"),
        ("scan1_tile0 scan2_tile0 scan3_tile0", "scan1_tile0 scan3_tile0 scan4_tile0",
         "scan2_tile0:scan3_tile0 scan3_tile0:scan4_tile0"),
        ("s1_t1 s1_t2 s2_t1", "s1_t1 s2_t1 s2_t2", "s1_t2:s2_t1 s2_t1:s2_t2"),
        ("Berlin Paris Rome", "Berlin London Paris", "Paris:London Rome:Paris"),
        ("a b", "c d", "a:c b:d"),
        ("case1/image case3/image", "case1/label case2/label", "case3/image:case2/label"),
        ("scan1_tile0 scan2_tile0 scan3_tile0", "scan1_tile0 scan2_tile1 scan3_tile0",
         "scan2_tile0:scan2_tile1"),
        ("noisy1_0 noisy2_1", "clean1_0 clean2_0", "noisy2_1:clean2_0"),
        ("Berlin Paris", "town1 town2", "Berlin:town1 Paris:town2"),
    ],
)  # fmt: skip
def test_names_that_disagree(inputs, targets, differing):
    expected = [
        (*places(first, "in"), *places(second, "out"))
        for first, second in (pair.split(":") for pair in differing.split())
    ]
    first, second = places(inputs, "in"), places(targets, "out")
    assert disagreeing_pairs([first, second]) == expected
    assert disagreeing_pairs([first, first, second]) == expected


def test_numbers_in_place_of_a_suffix_are_of_the_name():
    inputs, targets = ([Path("in", f"scan.{n}") for n in range(k, k + 3)] for k in (8, 9))
    assert disagreeing_pairs([inputs, targets]) == list(zip(inputs, targets, strict=True))
    assert disagreeing_pairs([inputs, inputs]) == []


def test_the_files_without_a_partner_are_told_if_names_tell():
    def missing(inputs, targets):
        return [path.stem for path in unpaired(places(inputs, "in"), places(targets, "out"))]

    assert missing("a_1 a_2 a_3", "b_1 b_3") == ["a_2"]
    assert missing("a_1 a_3", "b_1 b_2 b_3 b_4") == ["b_2", "b_4"]
    assert missing("Berlin Paris Rome", "Berlin Rome") == ["Paris"]
    assert missing("a b c", "d e") == []
    assert missing("a_1 a_2 a_3", "b_1 b_7") == []
    assert missing("a_1 a_2", "volume") == []


def test_a_missing_target_is_named(tmp_path):
    for name in ("in/x_1.tif", "in/x_2.tif", "in/x_3.tif", "out/y_1.tif", "out/y_3.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_image(tmp_path / name, np.ones((2, 2), np.uint8))
    with pytest.raises(InputError) as error:
        ImageDataset(tmp_path / "in", tmp_path / "out")
    assert error.value.message.endswith(
        f"in the same natural order; without a partner: {tmp_path}/in/x_2.tif"
    )
