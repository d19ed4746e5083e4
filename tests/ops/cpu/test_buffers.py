"""Memory of buffers is used again, by one tensor at a time, and given back when of no more use."""

import gc
import os
import threading
import warnings
from collections.abc import Iterator

import pytest
import torch

from msdtool.nn import MSDModule
from msdtool.ops.cpu import buffers
from msdtool.ops.cpu.buffers import LEAST_BYTES, new_buffer, release_spare

LIKE = torch.empty(0)
SIZE = LEAST_BYTES // 4


@pytest.fixture(autouse=True)
def _nothing_spare() -> Iterator[None]:
    release_spare()
    yield
    release_spare()


def test_a_buffer_has_the_shape_and_dtype_that_are_asked_for() -> None:
    for like in (LIKE, torch.empty(0, dtype=torch.float64)):
        for shape in ((3, 5), (2, SIZE), (0,)):
            buffer = new_buffer(*shape, like=like)
            assert buffer.shape == shape and buffer.dtype == like.dtype
            assert buffer.is_contiguous() and buffer.data_ptr() % 64 == 0


def test_memory_is_used_again_when_no_view_is_left() -> None:
    first = new_buffer(2, SIZE, like=LIKE)
    address, view = first.data_ptr(), first[1:, ::3]
    del first
    other = new_buffer(2, SIZE, like=LIKE)
    assert other.data_ptr() != address
    del view
    assert new_buffer(SIZE, 2, like=LIKE).data_ptr() == address


def test_memory_that_autograd_keeps_is_not_used_again() -> None:
    buffer = new_buffer(SIZE, like=LIKE).fill_(2.0)
    leaf = torch.ones(SIZE, requires_grad=True)
    result = (leaf * buffer).sum()
    del buffer
    new_buffer(SIZE, like=LIKE).fill_(3.0)
    result.backward()
    assert leaf.grad is not None and leaf.grad.eq(2).all()


def test_another_size_gives_back_what_is_spare() -> None:
    sizes = (SIZE, 2 * SIZE)
    kept = [new_buffer(size, like=LIKE) for size in sizes]
    addresses = [buffer.data_ptr() for buffer in kept]
    kept.clear()
    assert sorted(spare.nbytes for spare in buffers._spare) == [4 * size for size in sizes]
    again = [new_buffer(size, like=LIKE) for size in sizes]  # as the next step does
    assert [buffer.data_ptr() for buffer in again] == addresses
    again.clear()
    new_buffer(3 * SIZE, like=LIKE)
    assert [spare.nbytes for spare in buffers._spare] == [12 * SIZE]


def test_small_buffers_are_left_to_the_c_library() -> None:
    new_buffer(SIZE - 1, like=LIKE)
    assert buffers._spare == []


def test_threads_never_share_a_buffer() -> None:
    wrong = []

    def work(number: int) -> None:
        for _ in range(50):
            buffer = new_buffer(SIZE, like=LIKE)
            buffer[::1000] = number
            if not buffer[::1000].eq(number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert not wrong
    assert len(buffers._spare) <= buffers.MAX_SPARE


def test_a_fork_finds_nothing_spare() -> None:
    new_buffer(SIZE, like=LIKE)
    assert len(buffers._spare) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads, in newer versions of Python
        child = os.fork()
    if child == 0:
        os._exit(len(buffers._spare))
    assert os.waitpid(child, 0)[1] == 0
    assert buffers._spare == []


def test_a_fork_beside_busy_threads_finds_the_lock_free() -> None:
    done = threading.Event()

    def work(size: int) -> None:
        while not done.is_set():
            new_buffer(size, like=LIKE)
            size = 3 * SIZE - size

    threads = [threading.Thread(target=work, args=(size * SIZE,)) for size in (1, 2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                child = os.fork()
            if child == 0:
                os._exit(0 if buffers._lock.acquire(timeout=5) else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_few_are_kept() -> None:
    held = [new_buffer(SIZE, like=LIKE) for _ in range(9)]
    held.clear()
    assert len(buffers._spare) == buffers.MAX_SPARE


def test_buffers_lie_on_the_device_that_is_asked_for() -> None:
    with torch.device("meta"):
        assert new_buffer(SIZE, like=torch.empty(0, device="cpu")).device.type == "cpu"


@pytest.mark.filterwarnings("ignore")
def test_torch_compile_goes_around() -> None:
    network = MSDModule(1, 1, 3, 4)
    torch.nn.init.normal_(network.final_layer.linear.weight)
    image = torch.rand(1, 1, 600, 600)
    assert torch.equal(torch.compile(network, backend="eager")(image), network(image))
