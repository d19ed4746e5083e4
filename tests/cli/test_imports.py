import gc
import subprocess
import sys

from msdtool.cli.imports import no_collection

CODE = """
import gc, sys
from msdtool.cli.imports import no_collection
with no_collection():
    print(gc.isenabled())
    import torch
print(gc.isenabled(), gc.get_freeze_count() > 10_000)
"""


def test_torch_is_imported_without_garbage_collection():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True"]


def test_once_torch_is_there_nothing_changes():
    frozen = gc.get_freeze_count()
    with no_collection():
        assert gc.isenabled()
    assert gc.get_freeze_count() == frozen


def test_without_garbage_collection_nothing_changes():
    gc.disable()
    try:
        with no_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
