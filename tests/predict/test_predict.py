from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch

from msdtool.architecture import Architecture
from msdtool.data.specifiers import Location
from msdtool.errors import ConfigError, Error, InputError, ModelFileError, RunDirectoryError
from msdtool.nn import graphs
from msdtool.nn.build import build_network
from msdtool.nn.memory import prediction_bytes
from msdtool.predict import Inputs, Predictor, check_outputs, plan_jobs, predict
from msdtool.predict.inputs import ReadAhead
from msdtool.runs.checkpoint import load_checkpoint
from tests.predict.models import model_of

from ..helpers import LABELS, smooth_image, write_stack


def load(run):
    return Predictor.load(run, "cpu")


def network(run):
    """The best checkpoint's network, put together by hand."""
    model = load_checkpoint(run / "checkpoints" / "best.pt").model
    net = build_network(model.architecture)
    net.load_state_dict(model.state)
    return net.eval()


def softmax(scores):
    e = np.exp(scores - scores.max(0))
    return e / e.sum(0)


@pytest.fixture
def inputs(tmp_path):
    rng = np.random.default_rng(3)
    images = [smooth_image((11 + i, 14), rng).astype(np.float32) for i in range(5)]
    return write_stack(tmp_path / "inputs", images)


def apply(net, file):
    image = torch.from_numpy(tifffile.imread(file).astype(np.float32))
    with torch.no_grad():
        return net(image[None, None])[0].numpy()


def test_a_written_prediction_is_the_networks_output(regression_run, inputs, tmp_path):
    net = network(regression_run)
    done = list(predict(load(regression_run), plan_jobs(str(inputs), tmp_path / "out")))
    assert [item.job.input.name for item in done] == [f"image_00{i}.tif" for i in range(5)]
    for item in done:
        assert item.job.output == tmp_path / "out" / item.job.input.name
        written = tifffile.imread(item.job.output)
        assert written.dtype == np.float32
        assert np.array_equal(written, apply(net, item.job.input)[0])


def test_a_written_segmentation_holds_the_original_labels(segmentation_run, inputs, tmp_path):
    net = network(segmentation_run)
    jobs = plan_jobs(str(inputs), tmp_path / "out", probabilities=True)
    for item in predict(load(segmentation_run), jobs):
        scores = apply(net, item.job.input)
        written = tifffile.imread(item.job.output)
        assert written.dtype == np.uint8
        assert np.array_equal(written, np.array(LABELS)[scores.argmax(0)])
        shares = tifffile.imread(item.job.probabilities)
        assert item.job.probabilities.name == f"{item.job.input.stem}_probabilities.tif"
        assert shares.dtype == np.float32
        np.testing.assert_allclose(shares, softmax(scores), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [([0, 1, 255], np.uint8), ([0, 1, 256], np.uint16), ([-1, 0, 1], np.int16)],
)
def test_labels_are_written_in_the_smallest_type_that_holds_them(
    segmentation_run, inputs, tmp_path, labels, dtype
):
    model = load_checkpoint(segmentation_run / "checkpoints" / "best.pt").model
    model = replace(model, labels=tuple(labels))
    (item, *_) = predict(Predictor(model, "cpu"), plan_jobs(str(inputs), tmp_path / "out"))
    written = tifffile.imread(item.job.output)
    assert written.dtype == dtype
    assert set(np.unique(written)) <= set(labels)


def test_a_volume_gives_a_volume(tmp_path):
    torch.manual_seed(0)
    description = Architecture(1, 2, 2, 1, (1, 2), 3)
    net = build_network(description).eval()
    torch.nn.init.normal_(net.msd.final_layer.linear.weight)
    model = model_of(net, description)
    volume = np.random.default_rng(0).random((4, 5, 6), np.float32)
    folder = write_stack(tmp_path / "volumes", [volume])
    (item,) = predict(Predictor(model, "cpu"), plan_jobs(str(folder), tmp_path / "out"))
    with torch.no_grad():
        expected = net(torch.from_numpy(volume)[None, None])[0].numpy()
    written = tifffile.imread(item.job.output)
    assert written.shape == (2, 4, 5, 6)
    assert np.array_equal(written, expected)


def test_predicting_leaves_no_gradients_and_draws_no_random_numbers(regression_run):
    predictor = load(regression_run)
    before = torch.get_rng_state()
    first, second = (predictor(torch.ones(1, 9, 9)) for _ in range(2))
    assert not first.requires_grad
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


# Jobs ----------------------------------------------------------------------------------------


def test_two_inputs_of_one_name_are_refused(tmp_path):
    one, two = (write_stack(tmp_path / name, np.ones((1, 3, 3))) for name in ("a", "b"))
    with pytest.raises(ConfigError, match="would both be written to") as error:
        plan_jobs([str(one), str(two)], tmp_path / "out")
    assert str(one) in error.value.message and str(two) in error.value.message


def test_a_file_that_is_named_twice_is_predicted_once(
    regression_run, inputs, tmp_path, monkeypatch
):
    monkeypatch.chdir(inputs)
    first = inputs / "image_003.tif"
    (tmp_path / "link").symlink_to(inputs)
    names = [str(first), str(inputs), "image_001.tif", f"{tmp_path}/link/image_002.tif", str(first)]
    jobs = plan_jobs(names, tmp_path / "out")
    assert [job.location.path.stem[-1] for job in jobs] == ["3", "0", "1", "2", "4"]
    predictor = load(regression_run)
    for item in predict(predictor, jobs, Inputs(predictor, [names])):
        expected = apply(predictor.network, item.job.input)[0]
        assert np.array_equal(tifffile.imread(item.job.output), expected)


def test_a_file_that_is_named_in_two_ways_to_read_it_is_refused(inputs, tmp_path):
    file = inputs / "image_001.tif"
    with pytest.raises(ConfigError, match="would both be written to"):
        plan_jobs([Location(file), Location(file, axes="CX")], tmp_path / "out")


def test_a_result_never_replaces_an_input(inputs):
    with pytest.raises(ConfigError, match="is one of the inputs; choose another output folder"):
        plan_jobs(str(inputs), inputs)


def test_results_that_exist_are_refused_with_both_ways_out(inputs, tmp_path):
    jobs = plan_jobs(str(inputs), tmp_path / "out")
    check_outputs(jobs, tmp_path / "out")
    write_stack(tmp_path / "out", np.ones((2, 3, 3)))
    with pytest.raises(RunDirectoryError) as error:
        check_outputs(jobs, tmp_path / "out")
    assert error.value.message == (
        f"{jobs[0].output}: already exists (2 of the results do); skip existing results, or "
        "overwrite them"
    )
    assert error.value.hint_key == "skip_existing overwrite"


def test_results_need_a_folder(inputs, tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(RunDirectoryError, match="is a file; choose a folder for the results"):
        check_outputs(plan_jobs(str(inputs), tmp_path / "out"), tmp_path / "out")


def test_what_exists_is_skipped_without_being_read(regression_run, inputs, tmp_path):
    jobs = plan_jobs(str(inputs), tmp_path / "out")
    write_stack(tmp_path / "out", np.ones((2, 3, 3)))
    (inputs / "image_000.tif").write_bytes(b"no image any more")
    done = list(predict(load(regression_run), jobs, skip_existing=True))
    assert [item.skipped for item in done] == [True, True, False, False, False]
    assert tifffile.imread(jobs[0].output).shape == (3, 3)


def test_a_result_whose_probabilities_are_missing_is_done_again(segmentation_run, inputs, tmp_path):
    write_stack(tmp_path / "out", np.ones((1, 3, 3)))
    jobs = plan_jobs(str(inputs), tmp_path / "out", probabilities=True)[:1]
    (item,) = predict(load(segmentation_run), jobs, skip_existing=True)
    assert not item.skipped and item.job.probabilities.exists()


# What goes wrong -----------------------------------------------------------------------------


def test_a_bad_image_keeps_the_results_before_it(regression_run, inputs, tmp_path):
    (inputs / "image_002.tif").write_bytes(b"II*\0junk")
    jobs = plan_jobs(str(inputs), tmp_path / "out")
    with pytest.raises(InputError, match=r"image_002\.tif: cannot be read as an image"):
        list(predict(load(regression_run), jobs))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "image_000.tif",
        "image_001.tif",
    ]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.ones((2, 9, 9), np.float32), "has 2 channels, the model was trained on images with 1"),
        (np.full((9, 9), np.nan, np.float32), "81 of 81 values are NaN or infinite; replace them"),
        (np.ones((2, 9), np.float32), "dilation 3 is too large for an image of size 2"),
    ],
)
def test_an_image_that_the_network_cannot_take_is_named(regression_run, tmp_path, image, message):
    folder = write_stack(tmp_path / "inputs", [image], "CYX")
    with pytest.raises(InputError, match=message) as error:
        list(predict(load(regression_run), plan_jobs(str(folder), tmp_path / "out")))
    assert str(folder / "image_000.tif") in error.value.message
    assert not (tmp_path / "out").exists()


def test_a_disk_that_is_full_leaves_nothing_half_written(
    regression_run, inputs, tmp_path, monkeypatch
):
    def fail(path, *_, **__):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", fail)
    jobs = plan_jobs(str(inputs), tmp_path / "out")
    with pytest.raises(Error, match=r"image_000\.tif: cannot be written: No space left") as error:
        list(predict(load(regression_run), jobs))
    assert error.value.exit_code == 1
    assert not (tmp_path / "out").exists()


def test_weights_that_do_not_fit_are_a_bad_model(regression_run):
    model = load_checkpoint(regression_run / "checkpoints" / "best.pt").model
    model = replace(model, architecture=replace(model.architecture, depth=4))
    with pytest.raises(ModelFileError, match=r"mine: is damaged, its weights do not fit"):
        Predictor(model, "cpu", "mine")


def test_on_a_gpu_small_images_of_a_size_become_a_graph(regression_run, inputs, monkeypatch):
    """With a stand-in for CUDA's: the third image is the first that is computed by one."""
    shapes = []

    def capture(network, sample):
        shapes.append(tuple(sample.shape))
        return network.forward

    monkeypatch.setattr(graphs, "_capture_inference", capture)
    predictor, plain = load(regression_run), load(regression_run)
    image = torch.rand(1, 12, 14)
    needed = prediction_bytes(predictor.model.architecture, (12, 14))
    predictor.device, found = torch.device("cuda"), []
    for usable in (8 * needed - 1, 8 * needed):
        predictor.usable_bytes = usable
        found.append(predictor._in_graphs(image))
    predictor.device = torch.device("cpu")
    assert found == [False, True] and not predictor._in_graphs(image)
    monkeypatch.setattr(predictor, "_in_graphs", lambda image: True)
    for count in (0, 0, 1, 1):
        assert torch.equal(predictor(image), plain(image))
        assert len(shapes) == count


def test_images_for_a_gpu_are_read_into_pinned_memory(regression_run, inputs, monkeypatch):
    pinned, predictor = [], load(regression_run)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda image: pinned.append(image) or image)
    read = Inputs(predictor, [[Location(file) for file in sorted(inputs.iterdir())]])
    with ThreadPoolExecutor(1) as reader:
        first = ReadAhead(read, reader).get(0, None)
        assert pinned == []
        predictor.device = torch.device("cuda")
        assert torch.equal(ReadAhead(read, reader).get(0, None), first)
    assert len(pinned) == 1
