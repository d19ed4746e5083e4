"""A part of each image is what it would be in the whole result."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch

from msdtool.architecture import Architecture, Stream
from msdtool.data.readers import read_image
from msdtool.data.specifiers import Location
from msdtool.errors import ConfigError, InputError
from msdtool.nn.build import build_network
from msdtool.predict import Inputs, Predictor, plan_jobs, predict
from msdtool.predict.regions import Region, reach
from tests.predict.models import model_of
from tests.predict.test_strips import make_model, small

RNG = np.random.default_rng(0)
# Of the network of `make_model`: the sum of its dilations.
REACH = 12


def run(predictor, source, output, region=None, **options):
    (done,) = predict(predictor, plan_jobs(source, output, region=region, **options))
    return done.job.output


def parsed(text):
    return Region.parse(text)


@pytest.fixture
def image(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RNG.random((90, 80), np.float32))
    return tmp_path / "a.tif"


@pytest.fixture
def volume(tmp_path):
    tifffile.imwrite(tmp_path / "v.tif", RNG.random((9, 40, 44), np.float32))
    return tmp_path / "v.tif"


@pytest.mark.parametrize("labels", [(), (0, 7, 255)])
@pytest.mark.parametrize(
    "text, part",
    [
        ("40:50,30:45", np.s_[40:50, 30:45]),
        (":7,70:80", np.s_[:7, 70:]),
        ("89:,:", np.s_[89:, :]),
        (":,:", np.s_[:, :]),
    ],
)
def test_a_part_of_an_image_is_that_of_the_whole(image, tmp_path, text, part, labels):
    predictor = Predictor(make_model(labels=labels), "cpu")
    whole = tifffile.imread(run(predictor, image, tmp_path / "whole"))[part]
    found = tifffile.imread(run(predictor, image, tmp_path / "part", parsed(text)))
    assert found.shape == whole.shape and found.dtype == whole.dtype
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-6)


def test_only_what_the_part_depends_on_is_read(image):
    predictor = Predictor(make_model(), "cpu")
    assert reach(predictor.model.architecture) == REACH
    inputs = Inputs(predictor, [str(image)], parsed("40:50,0:5"))
    assert inputs.read(0).shape == (1, 10 + 2 * REACH, 5 + REACH)
    pixels = read_image(image)
    np.testing.assert_array_equal(inputs.read(0), pixels[:, 28:62, :17])


@pytest.mark.parametrize("text", ["2:7,10:30,4:40", ":,:,43:", "8:9,0:1,0:1"])
def test_a_part_of_a_volume_in_strips_is_that_of_the_whole(volume, tmp_path, text):
    model = make_model(ndim=3, depth=4, dilations=(1, 2))
    part = tuple(slice(*(int(n) if n else None for n in p.split(":"))) for p in text.split(","))
    whole = tifffile.imread(run(Predictor(model, "cpu"), volume, tmp_path / "whole"))[part]
    for name, predictor in (("strips", small(model)), ("memory", Predictor(model, "cpu"))):
        found = tifffile.imread(run(predictor, volume, tmp_path / name, parsed(text)))
        np.testing.assert_allclose(found, whole.reshape(found.shape), rtol=1e-4, atol=1e-5)


def test_averaging_over_symmetries_gives_the_part_of_the_whole(image, tmp_path):
    predictor = Predictor(make_model(), "cpu", tta=True)
    whole = tifffile.imread(run(predictor, image, tmp_path / "whole"))[20:30, 5:60]
    found = tifffile.imread(run(predictor, image, tmp_path / "part", parsed("20:30,5:60")))
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("slab", [0, 1])
def test_slices_of_a_volume_have_the_neighbours_of_the_whole(volume, tmp_path, slab):
    torch.manual_seed(0)
    architecture = Architecture(1 + 2 * slab, 1, 3, 1, (1, 2), 2)
    network = build_network(architecture).eval()
    torch.nn.init.normal_(network.msd.final_layer.linear.weight)
    model = replace(model_of(network, architecture), slab=slab)
    predictor = Predictor(model, "cpu")
    whole = tifffile.imread(run(predictor, volume, tmp_path / "whole"))
    some = run(predictor, volume, tmp_path / "some", Region.parse(slices="3:8"))
    np.testing.assert_array_equal(tifffile.imread(some), whole[3:8])
    part = tifffile.imread(run(predictor, volume, tmp_path / "part", parsed("8:,10:20,:")))
    np.testing.assert_allclose(part.squeeze(), whole[8, 10:20], rtol=1e-5, atol=1e-6)


def test_of_a_series_all_that_comes_before_counts(volume, tmp_path):
    torch.manual_seed(0)
    architecture = Architecture(1, 1, 2, 1, (1,), 3, stream=Stream(0, 2))
    predictor = Predictor(model_of(build_network(architecture).eval(), architecture), "cpu")
    whole = tifffile.imread(run(predictor, volume, tmp_path / "whole"))
    found = tifffile.imread(run(predictor, volume, tmp_path / "part", parsed("3:6,5:9,:")))
    np.testing.assert_array_equal(found, whole[3:6, 5:9])


@pytest.mark.parametrize("format", ["h5", "zarr", "npy", "files"])
def test_every_format_holds_a_part(volume, tmp_path, format):
    predictor = Predictor(make_model(), "cpu")
    whole = tifffile.imread(run(predictor, volume, tmp_path / "whole"))[2:4, :10, 3:]
    output = run(predictor, volume, tmp_path / "part", parsed("2:4,:10,3:"), format=format)
    found = (
        [read_image(output, index=index)[0] for index in range(2)]
        if format != "files"
        else [tifffile.imread(file) for file in sorted(output.glob("*.tif"))]
    )
    np.testing.assert_allclose(np.stack(found), whole, rtol=1e-5, atol=1e-6)


def test_a_part_lies_where_it_was_in_the_whole(tmp_path):
    """Pixel size and position of the first slice, row and column, in micrometres."""
    path = tmp_path / "v.ome.tif"
    tifffile.imwrite(
        path,
        RNG.random((9, 40, 44), np.float32),
        metadata={
            "axes": "ZYX",
            "PhysicalSizeX": 0.5,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": 0.25,
            "PhysicalSizeYUnit": "µm",
            "PhysicalSizeZ": 2.0,
            "PhysicalSizeZUnit": "µm",
        },
    )
    predictor = Predictor(make_model(), "cpu")
    output = run(predictor, path, tmp_path / "o", parsed("3:,4:20,6:"), format="zarr")
    import zarr

    scale, shift = zarr.open_group(output).attrs["ome"]["multiscales"][0]["datasets"][0][
        "coordinateTransformations"
    ]
    assert scale["scale"] == [2.0, 0.25, 0.5]
    assert shift["translation"] == [6.0, 1.0, 3.0]


@pytest.mark.parametrize("text", ["5", "1:2", "1:2,3", "-1:2,3:4", "a:b,:", "5:5,:", "1:2,:,:,:"])
def test_what_is_no_region_is_refused(text):
    with pytest.raises(ConfigError) as error:
        Region.parse(text)
    assert error.value.hint_key == "region"


def test_slices_and_a_region_are_one_too_many():
    assert Region.parse() is None
    with pytest.raises(ConfigError, match="region: names slices, too"):
        Region.parse("1:2,3:4", "5:6")


@pytest.mark.parametrize(
    "source, text, message",
    [
        ("image", "0:91,:", "has 90 pixels along Y, counted from 0; the region 0:91 does not lie"),
        ("image", "90:,:", "has 90 pixels along Y, counted from 0; the region 90:90 does not lie"),
        ("image", "0:1,:,:", "holds one image, so slices cannot be selected"),
        ("volume", "0:10,:,:", "has 9 pixels along Z, counted from 0; the region 0:10 does not"),
    ],
)
def test_a_region_outside_an_image_is_refused(request, tmp_path, source, text, message):
    file = request.getfixturevalue(source)
    with pytest.raises(InputError) as error:
        run(Predictor(make_model(), "cpu"), file, tmp_path / "out", parsed(text))
    assert error.value.message.startswith(f"{file}: {message}")
    assert not list((tmp_path / "out").glob("*"))


def test_of_a_stack_the_files_are_named(image, tmp_path):
    with pytest.raises(ConfigError, match="stack: name the files of the slices"):
        plan_jobs([Location(image)], tmp_path, stack=True, region=Region.parse(slices="1:2"))


def test_the_command_knows_regions(cli, regression_run, tmp_path):
    images = regression_run.parent / "train" / "noisy"
    cli("predict", regression_run, images, "-o", tmp_path / "whole")
    result = cli("predict", regression_run, images, "-o", tmp_path / "o", "--region", "5:9,:12")
    assert result.code == 0, result.err
    for path in (tmp_path / "o").iterdir():
        whole = tifffile.imread(tmp_path / "whole" / path.name)
        np.testing.assert_allclose(tifffile.imread(path), whole[5:9, :12], rtol=1e-5, atol=1e-5)
    refused = cli("predict", regression_run, images, "-o", tmp_path / "p", "--slices", "0:2")
    assert refused.code == 3
    assert "holds one image, so slices cannot be selected" in refused.err
