"""Predictions that are killed at random instants, alone or while two write the same result."""

import json
import os
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest

from msdtool.data.sinks import SUFFIXES
from tests.cli.conftest import contents

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked"),
]


CASES = {
    **{f"{format} alone": (format, False, False) for format in SUFFIXES},
    **{f"{format} in strips": (format, True, False) for format in ("tif", "files")},
    **{f"{format} with a rival": (format, False, True) for format in ("npy", "h5", "zarr")},
}


@pytest.mark.parametrize(("format", "strips", "rival"), CASES.values(), ids=CASES)
def test_what_is_killed_leaves_the_right_result_in_the_end(
    regression_run, tmp_path, format, strips, rival
):
    shape = (2, 700, 500) if strips else (40, 64, 64)
    np.save(tmp_path / "v.npy", np.random.default_rng(0).random(shape, np.float32))
    (tmp_path / "scratch").mkdir()
    source = f"{{path: {tmp_path}/v.npy, axes: ZYX}}"
    command = ["predict", regression_run, source, "--format", format, "--quiet"]
    if strips:
        command += ["--scratch", tmp_path / "scratch"]
    options = {"seed": 1, "kills": 3, "place": str(tmp_path), "strips": strips, "rival": rival}
    options["command"] = list(map(str, command))
    result = subprocess.run(
        [sys.executable, "-m", "tests.faults.children", json.dumps(options)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    first, *codes, last = map(int, result.stdout.splitlines()[-1].split())
    assert (first, last) == (0, 0), result.stderr
    # 1: another process writes the result; 2: it exists already.
    assert set(codes) <= {0, 1, 2, -signal.SIGKILL}, result.stderr
    assert "Traceback" not in result.stderr
    found, expected = (contents(tmp_path / name) for name in ("out", "undisturbed"))
    assert found.keys() == expected.keys()
    if format == "h5":  # whose parts may lie in any order
        with h5py.File(tmp_path / "out/v.h5") as a, h5py.File(tmp_path / "undisturbed/v.h5") as b:
            assert np.array_equal(a["data"], b["data"])
    else:
        assert found == expected
    assert list((tmp_path / "scratch").iterdir()) == []
