import json
import os
import signal

import numpy as np
import pytest
import tifffile

from msdtool.data.sinks import Sink
from tests.helpers import smooth_image, write_stack


@pytest.fixture
def inputs(tmp_path):
    rng = np.random.default_rng(3)
    images = [smooth_image((12, 13), rng).astype(np.float32) for _ in range(4)]
    return write_stack(tmp_path / "inputs", images)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_paths_of_results_go_to_stdout(cli, regression_run, inputs, tmp_path):
    out = tmp_path / "out"
    result = cli("predict", regression_run, inputs, "-o", out)
    assert result == (0, "".join(f"{out}/image_00{i}.tif\n" for i in range(4)), "")
    assert names(out) == names(inputs)
    assert tifffile.imread(out / "image_000.tif").dtype == np.float32


def test_a_checkpoint_file_is_a_model_too(cli, regression_run, inputs, tmp_path):
    for model, out in ((regression_run, "a"), (regression_run / "checkpoints" / "best.pt", "b")):
        assert cli("predict", model, inputs, "-o", tmp_path / out).code == 0
    for name in names(inputs):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_json_gives_a_line_per_image(cli, regression_run, inputs, tmp_path):
    write_stack(tmp_path / "out", np.ones((1, 3, 3)))
    result = cli(
        "predict", regression_run, inputs, "-o", tmp_path / "out", "--json", "--skip-existing"
    )
    rows = [json.loads(line) for line in result.out.splitlines()]
    assert [row["skipped"] for row in rows] == [True, False, False, False]
    assert rows[1]["input"] == str(inputs / "image_001.tif")
    assert rows[1]["output"] == str(tmp_path / "out" / "image_001.tif")
    assert rows[1]["seconds"] > 0


def test_existing_results_need_a_decision(cli, regression_run, inputs, tmp_path):
    out = write_stack(tmp_path / "out", np.ones((1, 3, 3)))
    result = cli("predict", regression_run, inputs, "-o", out)
    assert (result.code, result.out) == (2, "")
    assert "already exists (1 of the results do); skip existing results, or over" in result.err
    assert names(out) == ["image_000.tif"]
    assert cli("predict", regression_run, inputs, "-o", out, "--skip-existing").code == 0
    assert tifffile.imread(out / "image_000.tif").shape == (3, 3)
    assert cli("predict", regression_run, inputs, "-o", out, "--overwrite").code == 0
    assert tifffile.imread(out / "image_000.tif").shape == (12, 13)
    result = cli("predict", regression_run, inputs, "-o", out, "--overwrite", "--skip-existing")
    assert result == (2, "", "error: --overwrite and --skip-existing: choose one\n")


def test_a_dash_reads_names_from_stdin(cli, regression_run, inputs, tmp_path):
    stdin = f"{inputs}/image_003.tif\n\n{inputs}/image_001.tif\n"
    result = cli("predict", regression_run, "-", "-o", tmp_path / "out", stdin=stdin)
    assert result.code == 0
    assert result.out.split() == [f"{tmp_path}/out/image_00{i}.tif" for i in (3, 1)]
    nothing = cli("predict", regression_run, "-", "-o", tmp_path / "more", stdin="\n")
    assert nothing == (0, "", "stdin names no files: nothing to do\n")
    assert not (tmp_path / "more").exists()


def test_parts_do_everything_once(cli, regression_run, inputs, tmp_path):
    parts = ["--num-parts", 3, "-o", tmp_path / "out"]
    done = [cli("predict", regression_run, inputs, *parts, "--part", part) for part in range(3)]
    found = [line for result in done for line in result.out.splitlines()]
    assert sorted(found) == [f"{tmp_path}/out/{name}" for name in names(inputs)]
    assert "part 1 of 3 (by --part and --num-parts): 1 of 4 files" in done[1].err
    assert "1 of 4 are still missing" in done[1].err
    assert "all are complete" in done[2].err
    result = cli("predict", regression_run, inputs, *parts, "--part", 3)
    assert result == (2, "", "error: --part 3: expected a number from 0 to 2\n")


def test_a_task_of_a_slurm_array_does_its_part(cli, regression_run, inputs, tmp_path, monkeypatch):
    """An array from 3 on, with fewer images than tasks."""
    for name, value in (("COUNT", "5"), ("MIN", "3"), ("MAX", "7")):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    found = []
    for task in range(3, 8):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
        result = cli("predict", regression_run, inputs, "-o", tmp_path / "out")
        assert result.code == 0
        found += result.out.splitlines()
    assert sorted(found) == [f"{tmp_path}/out/{name}" for name in names(inputs)]
    assert "part 4 of 5 (by SLURM_ARRAY_TASK_ID): 0 of 4 files" in result.err
    result = cli("predict", regression_run, inputs, "-o", tmp_path / "all", "--num-parts", 1)
    assert len(result.out.splitlines()) == 4


def test_what_is_missing_is_listed_and_can_be_done(cli, regression_run, inputs, tmp_path):
    arguments = ["-o", tmp_path / "out"]
    write_stack(tmp_path / "out", np.ones((2, 3, 3)))
    (tmp_path / "out" / "image_001.tif").write_bytes(b"")
    missing = cli("predict", regression_run, inputs, *arguments, "--missing")
    assert missing == (1, "".join(f"{inputs}/image_00{i}.tif\n" for i in (1, 2, 3)), "")
    rows = cli("predict", regression_run, inputs, *arguments, "--missing", "--json").out
    assert json.loads(rows.splitlines()[0]) == {
        "input": f"{inputs}/image_001.tif",
        "output": f"{tmp_path}/out/image_001.tif",
    }
    arguments.append("--skip-existing")
    assert cli("predict", regression_run, "-", *arguments, stdin=missing.out).code == 0
    assert cli("predict", regression_run, inputs, *arguments, "--missing") == (0, "", "")


def test_probabilities_of_a_segmentation(cli, segmentation_run, regression_run, inputs, tmp_path):
    result = cli("predict", segmentation_run, inputs, "-o", tmp_path / "out", "--probabilities")
    assert len(result.out.splitlines()) == 4
    shares = tifffile.imread(tmp_path / "out" / "image_000_probabilities.tif")
    assert shares.shape == (3, 12, 13)
    np.testing.assert_allclose(shares.sum(0), 1, rtol=1e-5)
    result = cli("predict", regression_run, inputs, "-o", tmp_path / "more", "--probabilities")
    assert result == (2, "", "error: --probabilities: the model is for regression and has none\n")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR2, 75), (signal.SIGINT, 130)]
)
def test_a_signal_stops_after_the_image_that_is_being_done(
    cli, regression_run, inputs, tmp_path, monkeypatch, number, code
):
    finish = Sink.finish

    def finish_and_signal(sink):
        if sink.path.name == "image_001.tif":
            os.kill(os.getpid(), number)
        finish(sink)

    monkeypatch.setattr(Sink, "finish", finish_and_signal)
    result = cli("predict", regression_run, inputs, "-o", tmp_path / "out")
    assert result.code == code
    said = f"stopped at file 3 of 4, {inputs}/image_002.tif; rerun with --skip-existing to resume"
    assert said in result.err
    assert names(tmp_path / "out") == ["image_000.tif", "image_001.tif"]
    monkeypatch.undo()


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_an_unknown_device_is_an_error(cli, regression_run, inputs, tmp_path, command):
    arguments = {
        "predict": [inputs, "-o", tmp_path / "out"],
        "evaluate": ["--input", inputs, "--target", inputs],
    }
    result = cli(command, regression_run, *arguments[command], "--device", "gpu")
    assert result == (2, "", "error: device: got 'gpu'; allowed: auto, cpu, cuda\n")


def test_what_is_not_a_model_is_an_error(cli, inputs, tmp_path):
    (tmp_path / "junk.pt").write_bytes(b"junk")
    result = cli("predict", tmp_path / "junk.pt", inputs, "-o", tmp_path / "out")
    assert (result.code, result.out) == (3, "")
    assert f"{tmp_path}/junk.pt: not a checkpoint of msdtool" in result.err
    assert not (tmp_path / "out").exists()


def test_type_range_and_compression_are_chosen(cli, regression_run, inputs, tmp_path):
    options = ["--dtype", "uint16", "--scale", "-2:3", "--compress", "deflate"]
    result = cli("predict", regression_run, inputs, "-o", tmp_path / "out", *options)
    assert result.code == 0
    assert cli("predict", regression_run, inputs, "-o", tmp_path / "values").code == 0
    for name in names(inputs):
        values = tifffile.imread(tmp_path / "values" / name).astype(np.float64)
        with tifffile.TiffFile(tmp_path / "out" / name) as file:
            pixels, compression = file.asarray(), file.pages[0].compression
        assert compression != 1
        np.testing.assert_array_equal(pixels, np.rint((values + 2) / 5 * 65535).clip(0, 65535))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--dtype", "int8"],
            "dtype: got 'int8'; allowed: float32, float16, uint16, uint8, input (--dtype)",
        ),
        (["--scale", "0:1"], "scale: 0:1: only integers need a range; choose the dtype uint16"),
        (["--compress", "lzma"], "compress: lzma: the compressions of tif results are"),
        (["--compress", "blosc"], "of tif results are none, deflate, lzw, zstd"),
        (["--compress", "zstd", "--format", "npy"], "of npy results are none"),
    ],
)
def test_what_cannot_be_written_is_refused_first(
    cli, regression_run, inputs, tmp_path, options, message
):
    result = cli("predict", regression_run, inputs, "-o", tmp_path / "out", *options)
    assert result.code == 2
    assert message in result.err
    assert not (tmp_path / "out").exists()


def test_labels_have_no_range(cli, segmentation_run, inputs, tmp_path):
    options = ["-o", tmp_path / "out", "--dtype", "uint8", "--scale", "0:1"]
    result = cli("predict", segmentation_run, inputs, *options)
    assert result.code == 2
    assert "the results are labels" in result.err


def test_inputs_in_another_unit_are_scaled(cli, regression_run, tmp_path):
    """Result and metrics are those of the same images in the unit of the training images."""
    noisy = regression_run.parent / "train" / "noisy"
    clean = regression_run.parent / "train" / "clean"
    small = tmp_path / "small"
    small.mkdir()
    for path in noisy.iterdir():
        tifffile.imwrite(small / path.name, tifffile.imread(path) / np.float32(1024))
    options = ("--quiet", "--scale-input", "1024")
    assert cli("predict", regression_run, noisy, "-o", tmp_path / "a", "--quiet").code == 0
    scaled = cli("predict", regression_run, small, "-o", tmp_path / "b", *options)
    assert (scaled.code, scaled.err) == (0, "")
    for path in noisy.iterdir():
        one, other = (tifffile.imread(tmp_path / name / path.name) for name in "ab")
        assert np.array_equal(one, other)
    figures = [
        json.loads(
            cli("evaluate", regression_run, "--input", folder, "--target", clean, "--json",
                *more).out
        )["output"]
        for folder, more in ((noisy, ()), (small, options))
    ]  # fmt: skip
    assert figures[0] == figures[1]
    told = cli("predict", regression_run, small, "-o", tmp_path / "c", "--quiet").err
    assert told.startswith("warning: ")
    assert told.splitlines()[0].endswith("(--scale-input)")
    # Results in another unit are not those that are there.
    again = cli("predict", regression_run, small, "-o", tmp_path / "b", "--quiet")
    assert again.code == 2


@pytest.mark.parametrize("factor", ["0", "nan", "inf"])
def test_a_factor_is_a_number(cli, regression_run, tmp_path, factor):
    noisy = regression_run.parent / "train" / "noisy"
    result = cli("predict", regression_run, noisy, "-o", tmp_path, "--scale-input", factor)
    assert result.code == 2
    assert "scale_input: got" in result.err
    assert "(--scale-input)" in result.err
