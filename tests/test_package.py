"""What `import msdtool` offers, and what it costs."""

import importlib.metadata
import os
import subprocess
import sys

import pytest

import msdtool

HEAVY = {"numpy", "pydantic", "rich", "torch", "typer"}


def test_import_is_cheap_and_shows_the_public_names():
    code = (
        "import sys, msdtool\n"
        "names = {'ImageDataset', 'ImageStack', 'InputError', 'MSDModel', 'MSDRegressionModel',\n"
        "    'MSDSegmentationModel', '__version__'}\n"
        "print(names <= set(dir(msdtool)), msdtool.__version__ != '', len(sys.modules) < 150)\n"
        f"print(sorted({HEAVY} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["True True True", "[]"]


def test_packages_keep_their_files_where_ours_are_if_that_is_chosen(tmp_path):
    code = "import os, msdtool; print(os.environ.get('CUPY_CACHE_DIR'), os.environ['MPLCONFIGDIR'])"
    environment = {**os.environ, "MPLCONFIGDIR": "/chosen", "MSDTOOL_CACHE": str(tmp_path)}
    environment.pop("CUPY_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{tmp_path}/cupy /chosen\n"


def test_a_star_import_brings_the_public_names():
    names: dict[str, object] = {}
    exec("from msdtool import *", names)
    assert set(msdtool.__all__) <= set(names)
    assert names["InputError"] is msdtool.errors.InputError


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="module 'msdtool' has no attribute 'MSDModell'"):
        _ = msdtool.MSDModell


def test_the_version_is_that_of_the_distribution():
    assert msdtool.__version__ == importlib.metadata.version("msdtool")


def test_a_checkout_that_is_not_installed_has_a_version_too(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    monkeypatch.delitem(vars(msdtool), "__version__", raising=False)
    assert msdtool.__version__ == "0+unknown"
    del msdtool.__version__  # look it up again
