"""Batches: the same whatever the number of workers and wherever a run was stopped."""

import multiprocessing
import threading
import time
from collections import Counter

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st

from msdtool import ImageDataset, InputError
from msdtool.data import IGNORED, SubsetOf
from msdtool.data.loaders import (
    BATCHES_AHEAD,
    DummyBatch,
    Shard,
    ShuffledBatches,
    TrainingSamples,
    training_batches,
    validation_batches,
)

NUM_PAIRS = 5


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Five masked pairs of 8 x 12 pixels, the target being the input plus one."""
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    for number in range(NUM_PAIRS):
        input = rng.normal(size=(8, 12)).astype(np.float32)
        mask = rng.integers(0, 2, (8, 12), np.uint8)
        for kind, image in (("in", input), ("out", input + 1), ("mask", mask)):
            (folder / kind).mkdir(exist_ok=True)
            tifffile.imwrite(folder / kind / f"{number}.tif", image)
    return ImageDataset(folder / "in", folder / "out", mask_path_specifier=folder / "mask")


def load(dataset, workers=0, first_batch=0, seed=3, epochs=3, batch_size=2, **options):
    options = {"crop": (5, 6), "augment": True, "keep_shape": True, **options}
    samples = TrainingSamples(dataset, seed=seed, **options)
    batches = ShuffledBatches(len(dataset), batch_size, epochs, seed, first_batch)
    return list(training_batches(samples, batches, workers))


def as_lists(batches):
    return [[None if image is None else image.tolist() for image in batch] for batch in batches]


@given(st.integers(1, 30), st.integers(1, 8), st.integers(1, 4), st.integers(0, 1000))
def test_every_pair_comes_once_in_every_epoch(num_samples, batch_size, epochs, seed):
    batches = list(ShuffledBatches(num_samples, batch_size, epochs, seed))
    drawn = Counter(draw for batch in batches for draw in batch)
    assert drawn == Counter((e, i) for e in range(epochs) for i in range(num_samples))
    sizes = [len(batch) for batch in batches[: -(-num_samples // batch_size)]]
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    assert all(len({epoch for epoch, _ in batch}) == 1 for batch in batches)


@given(st.integers(1, 30), st.integers(1, 8), st.integers(1, 4), st.data())
def test_the_order_from_any_batch_on_is_the_rest_of_the_whole(num_samples, size, epochs, data):
    whole = ShuffledBatches(num_samples, size, epochs, seed=5)
    first = data.draw(st.integers(0, len(whole)))
    rest = ShuffledBatches(num_samples, size, epochs, 5, first)
    assert list(rest) == list(whole)[first:]
    assert len(rest) == len(whole) - first
    assert whole.batches_per_epoch == -(-num_samples // size)


def test_the_order_follows_from_seed_and_epoch():
    orders = [
        [index for batch in ShuffledBatches(20, 20, 2, seed) for _, index in batch]
        for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0][:20] != orders[0][20:]


def test_more_epochs_only_add_batches():
    assert list(ShuffledBatches(7, 2, 5, 0))[:8] == list(ShuffledBatches(7, 2, 2, 0))


@given(st.integers(1, 30), st.integers(1, 8), st.integers(1, 4))
def test_shards_make_up_each_batch_and_none_is_empty(num_samples, batch_size, size):
    batches = list(ShuffledBatches(num_samples, batch_size, 2, seed=0))
    shards = [list(Shard(batches, rank, size)) for rank in range(size)]
    assert {len(shard) for shard in shards} == {len(batches)}
    for batch, *parts in zip(batches, *shards, strict=True):
        counted = [draw for part in parts if not isinstance(part, DummyBatch) for draw in part]
        assert sorted(counted) == sorted(batch)
        assert all(part == batch[:1] for part in parts if isinstance(part, DummyBatch))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_dummy_batch_counts_nowhere_and_belongs_to_no_image(dataset, workers):
    samples = TrainingSamples(dataset, seed=0)
    (batch,) = training_batches(samples, Shard([[(0, 4)]], 1, 2), workers)
    assert batch.input.shape == (1, 1, 8, 12)
    assert not batch.mask.any()
    assert batch.indices.tolist() == []


def test_a_dummy_batch_of_labels_is_ignored(tmp_path):
    for kind in ("in", "out"):
        (tmp_path / kind).mkdir()
        tifffile.imwrite(tmp_path / kind / "0.tif", np.ones((4, 4), np.uint8))
    samples = TrainingSamples(ImageDataset(tmp_path / "in", tmp_path / "out", labels=2), seed=0)
    (batch,) = training_batches(samples, Shard([[(0, 0)]], 1, 2), 0)
    assert (batch.target == IGNORED).all()
    assert batch.mask is None


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_processes_validate_equally_many_batches_and_each_image_once(dataset, size):
    batches = [list(validation_batches(dataset, 0, rank, size)) for rank in range(size)]
    assert len({len(shard) for shard in batches}) == 1
    indices = [batch.indices.tolist() for shard in batches for batch in shard]
    assert sorted(indices) == sorted(
        [[k] for k in range(NUM_PAIRS)] + [[]] * (len(indices) - NUM_PAIRS)
    )


def test_workers_do_not_change_the_batches(dataset):
    alone, with_workers = load(dataset), load(dataset, workers=2)
    assert as_lists(alone) == as_lists(with_workers)
    assert [len(batch.indices) for batch in alone] == [2, 2, 1] * 3


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_goes_on_in_mid_epoch_gets_the_remaining_batches(dataset, workers):
    whole = load(dataset)
    assert as_lists(load(dataset, workers, first_batch=4)) == as_lists(whole[4:])


def test_samples_keep_input_target_and_mask_together(dataset):
    """Where the mask holds, the target is the input plus one; elsewhere it is zero."""
    for batch in load(dataset):
        assert batch.input.shape[1:] == (1, 5, 6)
        assert batch.mask.dtype == torch.bool
        expected = torch.where(batch.mask, batch.input + 1, 0)
        assert torch.equal(batch.target, expected)


def test_crops_differ_between_epochs_and_seeds(dataset):
    by_image = {}
    for seed in (3, 4):
        for batch in load(dataset, seed=seed, batch_size=1, augment=False):
            by_image.setdefault(int(batch.indices), set()).add(str(batch.input.tolist()))
    assert all(len(crops) > 3 for crops in by_image.values())


def test_whole_images_without_crop_and_augmentation(dataset):
    for batch in load(dataset, crop=None, augment=False, batch_size=1):
        assert torch.equal(batch.input[0], dataset[int(batch.indices)][0])


def test_validation_goes_in_order_one_whole_image_at_a_time(dataset):
    for pairs in (dataset, SubsetOf(dataset, [3, 1])):
        for workers in (0, 1):
            batches = list(validation_batches(pairs, workers))
            assert [batch.indices.tolist() for batch in batches] == [[k] for k in range(len(pairs))]
            for index, batch in enumerate(batches):
                assert torch.equal(batch.input[0], pairs[index][0])


def write_pairs(folder, shapes):
    for kind in ("in", "out"):
        (folder / kind).mkdir()
        for number, shape in enumerate(shapes):
            tifffile.imwrite(folder / kind / f"{number}.tif", np.ones(shape, np.float32))
    return ImageDataset(folder / "in", folder / "out")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_file_is_named_in_clean_text(tmp_path, workers):
    """From a worker process, too: no traceback in the message."""
    dataset = write_pairs(tmp_path, [(6, 6)] * 3)
    (tmp_path / "in" / "1.tif").write_bytes(b"junk")
    with pytest.raises(InputError) as error:
        load(dataset, workers, crop=None)
    message = error.value.message
    assert message.startswith(f"{tmp_path}/in/1.tif: cannot be read as an image: not a TIFF file")
    assert "Traceback" not in message and "\n" not in message


def test_workers_end_although_the_error_is_kept(tmp_path):
    """Else they would live until Python ends, and could keep it from ending."""
    image = np.zeros((8, 8), np.float32)
    for name in ("a", "b"):
        tifffile.imwrite(tmp_path / f"{name}.tif", image)
    (tmp_path / "b.tif").write_text("no image")
    dataset = ImageDataset(tmp_path, tmp_path)
    others = set(multiprocessing.active_children())
    with pytest.raises(InputError) as error:
        load(dataset, workers=2, crop=None)
    assert set(multiprocessing.active_children()) <= others
    assert error.value.__traceback__ is not None


@pytest.mark.parametrize("workers", [0, 2])
def test_images_of_one_batch_need_one_shape(tmp_path, workers):
    dataset = write_pairs(tmp_path, [(6, 6), (6, 7)])
    with pytest.raises(InputError) as error:
        load(dataset, workers, crop=None)
    assert "cannot be in one batch: their shapes are (1, 6, " in error.value.message
    assert error.value.message.endswith("set training.batch_size: 1, or data.crop")
    assert len(load(dataset, workers, batch_size=1, crop=None)) == 6
    assert len(load(dataset, workers, crop=(6, 6))) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_a_crop_that_does_not_fit_names_the_image(tmp_path, workers):
    dataset = write_pairs(tmp_path, [(6, 6), (6, 3)])
    with pytest.raises(InputError) as error:
        load(dataset, workers, crop=(4, 4))
    assert error.value.message == (
        f"{tmp_path}/in/1.tif is 6 x 3 pixels, smaller than data.crop 4 x 4; choose a smaller crop"
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_taken_over_while_one_is_used(dataset, workers):
    """When the first batch is given out, the next ones are on their way without being asked for."""
    read = []

    class Samples(TrainingSamples):
        def sample(self, draw):
            read.append(draw)
            return super().sample(draw)

    threads, processes = set(threading.enumerate()), set(multiprocessing.active_children())
    batches = training_batches(Samples(dataset, seed=0), ShuffledBatches(5, 1, 1, 0), workers)
    next(batches)
    if workers == 0:
        deadline = time.monotonic() + 30
        while len(read) < 1 + BATCHES_AHEAD and time.monotonic() < deadline:
            time.sleep(0.001)
        assert len(read) == 1 + BATCHES_AHEAD
    batches.close()  # and a loop that ends early ends them, too
    # Threads of Python's own queues end a moment later.
    started = {thread.name for thread in set(threading.enumerate()) - threads}
    assert not [name for name in started if name.startswith("read-ahead")]
    assert not set(multiprocessing.active_children()) - processes


@pytest.mark.parametrize("kind", ["training", "validation"])
def test_batches_for_a_gpu_are_pinned_by_the_thread_that_reads_ahead(dataset, monkeypatch, kind):
    """With a stand-in for CUDA's memory; every thread has to choose its GPU."""
    calls = []

    def pin(tensor):
        calls.append(threading.current_thread().name.split("_")[0])
        return tensor.clone()

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", calls.append)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    samples = TrainingSamples(dataset, seed=0)
    for device, index in (("cpu", None), ("cuda", 3), ("cuda:1", 1)):
        calls.clear()
        place = torch.device(device)
        if kind == "training":
            found = list(training_batches(samples, ShuffledBatches(5, 5, 1, 0), 0, place))
        else:
            found = list(validation_batches(dataset, 0, device=place))
        assert sum(len(batch.indices) for batch in found) == 5
        expected = [index] + ["read-ahead"] * 4 * len(found)  # input, target, mask, indices
        assert calls == ([] if index is None else expected)
