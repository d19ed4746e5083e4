import gc
import subprocess
import sys

from msdtool.cli.imports import no_collection
from tests.helpers import write_experiment, write_noisy_pairs

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


TRAIN = """
import sys
from msdtool.cli import main
try:
    main()
finally:
    print(*sys.modules)
"""


def test_training_does_not_import_what_it_does_not_use(tmp_path):
    pairs = write_noisy_pairs(tmp_path, 2)
    data = {"train": pairs, "validation": pairs}
    experiment = write_experiment(
        tmp_path / "denoise.yaml", {"data": data, "run": {"previews": True}}
    )
    arguments = ["train", experiment, "--set", "training.schedule=plateau"]
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, *arguments], capture_output=True, text=True, check=True
    )
    assert (tmp_path / "run/previews/worst.png").exists()
    modules = set(done.stdout.split())
    assert "torch" in modules
    # The first three belong to torch.compile, for 2 s.
    unused = {"torch._dynamo", "torch._inductor", "sympy", "cupy", "scipy", "skimage", "h5py"}
    assert modules & unused == set()


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
