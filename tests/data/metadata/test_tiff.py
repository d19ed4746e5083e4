"""TIFF: what other programs say, and what they understand of what we say."""

import numpy as np
import ome_types
import pytest
import tifffile

from msdtool.data.metadata import Description, Metadata, Packing, Provenance, Step, tiff

PIXELS = np.zeros((3, 4, 5), np.uint16)
STEPS = {"X": Step(0.65, "µm"), "Y": Step(0.5, "µm"), "Z": Step(2.0, "µm")}
MADE = Provenance("msdtool 1", "abc", "msdtool predict MODEL a.tif")


def read(path):
    with tifffile.TiffFile(path) as file:
        return tiff.read(file)


def write(path, axes="ZYX", dtype="uint16", **description):
    says = Description(**description)
    options = tiff.header(path.name, PIXELS.shape, axes, np.dtype(dtype), says)
    tifffile.imwrite(path, **options)


def check(found, expected):
    assert found.keys() == expected.keys()
    for letter, step in expected.items():
        assert found[letter].unit == step.unit
        assert found[letter][::2] == pytest.approx(step[::2], rel=1e-4)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        (
            {"resolution": (400, 200), "resolutionunit": 3},
            {"X": Step(1 / 400, "cm"), "Y": Step(1 / 200, "cm")},
        ),
        (
            {"resolution": (300, 300), "resolutionunit": 2},
            {"X": Step(1 / 300, "inch"), "Y": Step(1 / 300, "inch")},
        ),
        ({"resolution": (300, 300), "resolutionunit": 1}, {}),
        ({"resolution": (1, 1), "resolutionunit": 2}, {}),
        ({}, {}),
    ],
)
def test_resolution_counts_where_it_has_a_unit(tmp_path, options, steps):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS[0], **options)
    check(read(tmp_path / "a.tif").steps, steps)


@pytest.mark.parametrize(
    ("unit", "steps"),
    [
        (
            "um",
            {
                "X": Step(0.25, "µm", -0.5),
                "Y": Step(1.0, "µm"),
                "Z": Step(2.0, "µm"),
                "T": Step(4.0, "s"),
            },
        ),
        (
            r"\u00B5m",
            {
                "X": Step(0.25, "µm", -0.5),
                "Y": Step(1.0, "µm"),
                "Z": Step(2.0, "µm"),
                "T": Step(4.0, "s"),
            },
        ),
        ("pixel", {"T": Step(4.0, "s")}),
    ],
)
def test_imagej(tmp_path, unit, steps):
    metadata = {"axes": "ZYX", "unit": unit, "spacing": 2.0, "finterval": 4.0, "xorigin": 2}
    tifffile.imwrite(
        tmp_path / "a.tif", PIXELS, imagej=True, resolution=(4.0, 1.0), metadata=metadata
    )
    found = read(tmp_path / "a.tif")
    assert found.convention == "imagej"
    check(found.steps, steps)


def test_ome(tmp_path):
    metadata = {
        "axes": "ZYX",
        "PhysicalSizeX": 650.0,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.5,  # in micrometres unless another unit is given
        "TimeIncrement": 3.0,
        "Channel": {"Name": ["DAPI"]},
        "Plane": {"PositionX": [7.0] * 3, "PositionXUnit": ["nm"] * 3},
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", PIXELS, metadata=metadata)
    found = read(tmp_path / "a.ome.tif")
    assert (found.convention, found.channels) == ("ome", ("DAPI",))
    check(found.steps, {"X": Step(650.0, "nm", 7.0), "Y": Step(0.5, "µm"), "T": Step(3.0, "s")})


@pytest.mark.parametrize("xml", ["<OME", "<OME/>", "<OME><Image/></OME>", "<a><b></a>"])
def test_damaged_xml_says_nothing(xml):
    assert tiff.from_ome(xml) == ({}, ())


def test_geographic_tags_are_kept_as_they_are(tmp_path):
    tags = [(33550, 12, 3, (0.5, 0.5, 0.0), True), (34735, 3, 4, (1, 1, 0, 0), True)]
    tifffile.imwrite(tmp_path / "a.tif", PIXELS[0], extratags=tags)
    says = read(tmp_path / "a.tif")
    write(tmp_path / "b.tif", metadata=says)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        for code, kind, count, value, _ in tags:
            tag = file.pages[0].tags[code]
            assert (int(tag.dtype), tag.count, tag.value) == (kind, count, value)


def test_another_program_finds_the_resolution_of_a_plain_result(tmp_path):
    write(
        tmp_path / "a.tif", metadata=Metadata(steps=STEPS), provenance=MADE, packing=Packing(2, 3)
    )
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        tags = file.pages[0].tags
        pixels, units = tags["XResolution"].value
        assert tags["ResolutionUnit"].value == 3
        assert units / pixels == pytest.approx(0.65e-4)  # centimetres
        assert tags["Software"].value == "msdtool 1"
        content = file.shaped_metadata[0]
    assert (content["model"], content["slope"], content["offset"]) == ("abc", 2, 3)
    check(read(tmp_path / "a.tif").steps, STEPS)


def test_an_imagej_result_is_one_that_imagej_reads(tmp_path):
    says = Metadata("imagej", steps=STEPS | {"T": Step(4.0, "s")})
    write(tmp_path / "a.tif", metadata=says, provenance=MADE, packing=Packing(2.0, 3.0))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        content = file.imagej_metadata
    assert (content["unit"], content["spacing"], content["finterval"]) == ("um", 2.0, 4.0)
    assert (content["slices"], content["images"]) == (3, 3)
    # A calibration by the line c0 + c1 * value.
    assert (content["cf"], content["c0"], content["c1"]) == (0, 3.0, 2.0)
    assert "model = abc" in content["Info"]
    check(read(tmp_path / "a.tif").steps, STEPS | {"T": Step(4.0, "s")})


def test_units_of_any_script_are_written_for_imagej(tmp_path):
    steps = {letter: Step(2.0, "Å") for letter in "XYZ"}
    path = tmp_path / "a.tif"
    write(path, metadata=Metadata("imagej", steps))
    assert b"unit=\\u00C5\n" in path.read_bytes()
    check(read(path).steps, steps)


@pytest.mark.parametrize("size", [1e-40, 1e40])
@pytest.mark.parametrize("convention", ["", "imagej", "ome"])
def test_sizes_that_no_fraction_expresses_leave_a_tiff_readable(tmp_path, convention, size):
    steps = {letter: Step(size, "µm") for letter in "XYZ"}
    write(tmp_path / "a.tif", metadata=Metadata(convention, steps))
    read(tmp_path / "a.tif")
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), PIXELS)


@pytest.mark.parametrize(("axes", "dtype"), [("CZY", "uint16"), ("ZYX", "int16")])
def test_what_imagej_cannot_read_is_a_plain_tiff(tmp_path, axes, dtype):
    write(tmp_path / "a.tif", axes, dtype, metadata=Metadata("imagej", steps=STEPS))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_shaped
        assert not file.is_imagej


def test_an_ome_result_is_valid(tmp_path):
    says = Metadata(steps={**STEPS, "X": Step(0.65, "µm", 12.0)}, channels=("DAPI",))
    write(tmp_path / "a.ome.tif", metadata=says, provenance=MADE)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        ome = ome_types.from_xml(file.ome_metadata)
    pixels = ome.images[0].pixels
    assert (pixels.size_x, pixels.size_y, pixels.size_z) == (5, 4, 3)
    assert (pixels.physical_size_x, pixels.physical_size_z) == (0.65, 2.0)
    assert pixels.physical_size_x_unit.value == "µm"
    assert pixels.channels[0].name == "DAPI"
    assert [plane.position_x for plane in pixels.planes] == [12.0] * 3
    assert ome.structured_annotations[0].value["model"] == "abc"
    check(read(tmp_path / "a.ome.tif").steps, says.steps)
