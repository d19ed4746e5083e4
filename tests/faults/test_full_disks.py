"""Results on a full disk: the old one stays, and a later try with room completes the new."""

import shutil

import numpy as np
import pytest

from msdtool.data.sinks import SUFFIXES, Result, open_sink
from msdtool.errors import Error
from msdtool.predict import Predictor, plan_jobs, predict
from tests.cli.conftest import contents
from tests.helpers import full_disk, small_disk

BYTES = 8 * 64 * 64 * 4
"""The pixels of a result."""


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", 8 * BYTES):
        yield tmp_path / "disk"


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "v.npy"
    # Values as in training: a warning, too, has to be written somewhere.
    np.save(path, np.random.default_rng(0).normal(10, 2, (8, 64, 64)).astype(np.float32))
    return path


def check_the_end(predictor, jobs, volume, tmp_path, **options):
    """With room again, the result is that of an undisturbed start, and nothing else is left."""
    list(predict(predictor, jobs))
    list(predict(predictor, plan_jobs(volume, tmp_path / "alone", **options)))
    assert contents(jobs[0].output.parent) == contents(tmp_path / "alone")


CASES = [
    *((format, None, share) for format in SUFFIXES for share in (0.0, 0.02, 0.5, 0.8)),
    # Compressed ones are written twice, a folder file by file.
    *((format, "deflate", share) for format in ("tif", "h5", "files") for share in (0.5, 1.05)),
    *((format, "deflate", 1.6) for format in ("tif", "h5")),
]


@pytest.mark.parametrize(("format", "compression", "share"), CASES)
def test_a_full_disk(regression_run, tmp_path, disk, volume, format, compression, share):
    pytest.importorskip("zarr", "3")
    predictor = Predictor.load(regression_run, "cpu")
    options = {"format": format, "compression": compression}
    jobs = plan_jobs(volume, disk / "out", **options)
    list(predict(predictor, jobs))
    before = contents(disk / "out")
    (disk / "other").write_bytes(bytes(shutil.disk_usage(disk).free - int(share * BYTES)))
    with pytest.raises(Error, match="cannot be written: No space left on device") as error:
        list(predict(predictor, jobs, overwrite=True))
    assert error.value.exit_code == 1
    after = contents(disk / "out")
    assert {name: after.get(name) for name in before} == before
    (disk / "other").unlink()
    check_the_end(predictor, jobs, volume, tmp_path, **options)


@pytest.mark.parametrize("limit", [0, 100, BYTES // 2, BYTES - 1])
@pytest.mark.parametrize("format", ["tif", "npy", "h5"])
def test_a_file_that_cannot_grow(regression_run, tmp_path, volume, format, limit):
    predictor = Predictor.load(regression_run, "cpu")
    jobs = plan_jobs(volume, tmp_path / "out", format=format)
    with full_disk(limit), pytest.raises(Error, match="cannot be written: ") as error:
        list(predict(predictor, jobs))
    assert error.value.exit_code == 1
    assert not jobs[0].output.exists()
    check_the_end(predictor, jobs, volume, tmp_path, format=format)


@pytest.mark.parametrize("format", ["tif", "npy", "h5"])
def test_a_large_result_costs_no_memory_before_it_is_written(tmp_path, format):
    result = Result((1000,), "Z", (1, 4000, 5000), "float32", {}, "entry/data")
    sink = open_sink(format, tmp_path / f"a.{format}", result)
    (partial,) = tmp_path.iterdir()
    assert partial.stat().st_size > 80_000_000_000
    assert partial.stat().st_blocks * 512 < 1_000_000
    sink.discard()
    assert list(tmp_path.iterdir()) == []
