"""Images are scaled by levels of their own, and results back: against the network by hand."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch

from msdtool import InputError, load
from msdtool.architecture import Architecture, Stream
from msdtool.nn.build import build_network
from msdtool.predict import Predictor, plan_jobs, predict
from msdtool.predict.regions import Region
from msdtool.runs.checkpoint import save_checkpoint
from msdtool.runs.model import Checkpoint
from msdtool.runs.training_progress import TrainingProgress
from msdtool.scaling import Scaling
from tests.helpers import write_stack
from tests.predict.models import model_of
from tests.predict.test_strips import make_model, small
from tests.predict.test_watching import Scan, watched

RNG = np.random.default_rng(0)
MEAN_STD = Scaling(per="image")
PERCENTILE = Scaling("percentile", "image", (3.0, 96.0))


def model(how=MEAN_STD, **options):
    return replace(make_model(**options), scaling=how)


def image(shape=(40, 44)):
    return (30_000 + 1000 * RNG.standard_normal(shape)).astype(np.float32)


def levels(values, how):
    values = np.asarray(values, np.float64)
    if how.method == "percentile":
        low, high = np.percentile(values, how.percentiles)
        return low, high - low
    return values.mean(), values.std()


def by_hand(how_model, values, shown=None):
    """The network's output for an image, or slab, scaled by levels of ``shown``."""
    shift, scale = levels(values if shown is None else shown, how_model.scaling)
    network = build_network(how_model.architecture)
    network.load_state_dict(how_model.state)
    channels = values if values.ndim > how_model.architecture.ndim else values[None]
    with torch.no_grad():
        input = torch.from_numpy((channels.astype(np.float64) - shift) / scale).double()
        output = network.double().eval()(input[None])[0].numpy()
    return output * scale + shift


def results(predictor, source, output, **options):
    return [
        tifffile.imread(one.job.output)
        for one in predict(predictor, plan_jobs(source, output, **options))
    ]


def close(found, expected):
    """To rounding of float32, in units of the image's spread."""
    np.testing.assert_allclose(found, np.squeeze(expected), rtol=0, atol=0.2)


@pytest.mark.parametrize("how", [MEAN_STD, PERCENTILE])
@pytest.mark.parametrize("ndim, shape", [(2, (300, 500)), (3, (50, 40, 44))])
def test_whole_images_and_strips(tmp_path, how, ndim, shape):
    used, shown = model(how, ndim=ndim), image(shape)
    tifffile.imwrite(tmp_path / "a.tif", shown)
    expected = by_hand(used, shown)
    assert np.ptp(expected) > 1000
    close(*results(Predictor(used, "cpu"), tmp_path / "a.tif", tmp_path / "whole"), expected)
    close(*results(small(used), tmp_path / "a.tif", tmp_path / "strips"), expected)


@pytest.mark.parametrize("kind", [Predictor, small])
def test_a_region_has_the_levels_of_the_whole_image(tmp_path, kind):
    used, shown = model(), image((90, 80))
    shown[:45] += 20_000
    tifffile.imwrite(tmp_path / "a.tif", shown)
    predictor = kind(used, device="cpu") if kind is Predictor else kind(used)
    region = Region.parse("60:70,20:50")
    close(
        *results(predictor, tmp_path / "a.tif", tmp_path / "out", region=region),
        by_hand(used, shown)[:, 60:70, 20:50],
    )


def test_slices_have_their_own(tmp_path):
    used, shown = model(), image((5, 40, 44)) * np.float32([[[1]], [[2]], [[0.5]], [[7]], [[1]]])
    tifffile.imwrite(tmp_path / "v.tif", shown, photometric="minisblack")
    region = Region.parse(slices="1:4")
    (found,) = results(Predictor(used, "cpu"), tmp_path / "v.tif", tmp_path / "o", region=region)
    for number, one in enumerate(found, 1):
        expected = by_hand(used, shown[number])[0]
        np.testing.assert_allclose(one, expected, rtol=0, atol=1e-4 * expected.std())


def test_a_slab_is_scaled_by_its_central_slice(tmp_path):
    torch.manual_seed(0)
    description = Architecture(3, 1, 4, 1, (1, 2), 2)
    network = build_network(description).eval()
    torch.nn.init.normal_(network.msd.final_layer.linear.weight)
    used = replace(model_of(network, description), slab=1, scaling=MEAN_STD)
    shown = [image() + 500 * k for k in range(3)]
    folder = write_stack(tmp_path / "in", shown)
    found = results(Predictor(used, "cpu"), folder, tmp_path / "out")
    for k, neighbours in enumerate([(1, 0, 1), (0, 1, 2), (1, 2, 1)]):
        slab = np.stack([shown[place] for place in neighbours])
        close(found[k], by_hand(used, slab, shown[k]))


@pytest.mark.parametrize("strategy", ["X:1", "1:X"])
def test_each_input_of_splits_has_its_own_and_outputs_are_averaged_in_the_datas_unit(
    tmp_path, strategy
):
    used = replace(model(), splits=2, strategy=strategy)
    splits = [image(), 3 * image() + 100]
    files = [tmp_path / f"s{k}" / "a.tif" for k in range(2)]
    for file, split in zip(files, splits, strict=True):
        write_stack(file.parent, [])
        tifffile.imwrite(file, split)
    predictor = Predictor(used, "cpu")
    stack, _ = predictor.open_inputs([str(file) for file in files])
    found = predictor(stack.read(0)).numpy()
    close(found[0], np.mean([by_hand(used, split) for split in splits], axis=0))


def test_symmetries_change_no_figures():
    used, shown = model(), image()
    plain = Predictor(used, "cpu", tta=True)(torch.from_numpy(shown)[None])
    changed = Predictor(used, "cpu", tta=True)(torch.from_numpy(4 * shown + 4096)[None])
    close((changed.numpy()[0] - 4096) / 4, plain.numpy())


@pytest.mark.parametrize("frames_per_chunk", [2, 16])
def test_a_series_has_those_of_all_frames(tmp_path, frames_per_chunk):
    torch.manual_seed(0)
    description = Architecture(1, 1, 3, 1, (1, 2), 3, stream=Stream(0, frames_per_chunk))
    network = build_network(description).eval()
    torch.nn.init.normal_(network.msd.final_layer.linear.weight)
    used = replace(model_of(network, description), scaling=MEAN_STD)
    shown = image((6, 20, 24)) + 1000 * np.arange(6, dtype=np.float32)[:, None, None]
    tifffile.imwrite(tmp_path / "v.tif", shown, photometric="minisblack")
    close(
        *results(Predictor(used, "cpu"), tmp_path / "v.tif", tmp_path / "o"), by_hand(used, shown)
    )


def test_arrays_in_python_and_files_that_arrive(tmp_path):
    used, shown = checked(model()), [image(), image() * 2]
    path = tmp_path / "model.pt"
    save_checkpoint(path, Checkpoint(used, {}, TrainingProgress(), {}, {}, {}))
    scan = Scan(tmp_path / "scan")
    for number, one in enumerate(shown):
        close(load(path, "cpu").predict(one), by_hand(used, one))
        scan.at(number, f"a{number}.tif", one)
    watched(scan, Predictor.load(path, "cpu"), tmp_path / "out")
    for number, one in enumerate(shown):
        close(tifffile.imread(tmp_path / "out" / f"a{number}.tif"), by_hand(used, one))


def checked(used):
    """With the statistics that a checkpoint of a scaled regression needs."""
    known = replace(
        used.normalisation,
        input_mean=(0.0,),
        input_std=(1.0,),
        target_mean=(0.0,),
        target_std=(1.0,),
        own_range=1.0,
    )
    return replace(used, normalisation=known)


def test_a_target_of_another_quantity_is_not_scaled_back():
    used = model(Scaling(per="image", target="dataset"))
    shown = torch.from_numpy(image())[None]
    predictor = Predictor(used, "cpu")
    torch.testing.assert_close(predictor(shown), predictor(2 * shown + 512), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", [Predictor, small])
def test_an_image_without_contrast_is_refused(tmp_path, kind):
    tifffile.imwrite(tmp_path / "a.tif", np.full((200, 300), 5, np.uint16))
    predictor = kind(model(), device="cpu") if kind is Predictor else kind(model())
    with pytest.raises(InputError, match=r"a.tif: every pixel has the value 5, so that it has no"):
        results(predictor, tmp_path / "a.tif", tmp_path / "out")
    assert not (tmp_path / "out" / "a.tif").exists()


def test_no_image_is_in_another_unit(caplog):
    Predictor(checked(model()), "cpu").check(torch.from_numpy(image())[None], "a.tif")
    assert not caplog.records


def test_results_of_another_normalisation_are_not_resumed():
    plain, own = make_model(), model()
    other = replace(own, scaling=PERCENTILE)
    assert len({Predictor(one, "cpu").digest for one in (plain, own, other)}) == 3
