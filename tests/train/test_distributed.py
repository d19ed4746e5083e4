"""Two processes that train together come to the result of one."""

import copy
import time

import pytest
import torch

from msdtool.errors import FailedElsewhere, InputError, TrainingError
from msdtool.nn import MSDModule

CPU = torch.device("cpu")


# Messages ------------------------------------------------------------------------------------


def exchange(processes):
    rank = processes.rank
    return {
        "main": processes.is_main,
        "any": [processes.any(flag) for flag in (False, rank == 1, True)],
        "largest": processes.largest(10.0 - rank),
        "gathered": processes.gather({"rank": rank}),
        "together": processes.together(lambda: rank * 2),
        "on main": processes.on_main(lambda: f"from {rank}"),
        "share": list(processes.share(5)),
    }


def test_processes_exchange_values(team):
    common = {
        "any": [False, True, True],
        "largest": 10.0,
        "gathered": [{"rank": 0}, {"rank": 1}],
        "on main": "from 0",
    }
    assert team(exchange) == [
        {**common, "main": True, "together": 0, "share": [0, 2, 4]},
        {**common, "main": False, "together": 2, "share": [1, 3]},
    ]


def fail(processes, failing, how):
    def work():
        if processes.rank in failing:
            raise InputError(f"bad on {processes.rank}")
        return 1

    return getattr(processes, how)(work)


@pytest.mark.parametrize(("failing", "speaker"), [([0], 0), ([1], 1), ([0, 1], 0)])
def test_one_error_is_everybodys_and_said_once(team, failing, speaker):
    answers = team(fail, failing, "together")
    assert [type(answer) for answer in answers] == [
        InputError if rank == speaker else FailedElsewhere for rank in range(2)
    ]
    assert answers[speaker].message == f"bad on {speaker}"
    assert {answer.exit_code for answer in answers} == {3}


def test_what_the_main_process_meets_ends_all(team):
    answers = team(fail, [0, 1], "on_main")
    assert [type(answer) for answer in answers] == [InputError, FailedElsewhere]
    assert team(fail, [1], "on_main") == [1, 1]


def agree(processes):
    error = processes.agreed(TrainingError("not finite"))
    return type(error).__name__, error.exit_code


def test_an_error_that_all_come_to_is_the_main_ones(team):
    assert team(agree) == [("TrainingError", 1), ("FailedElsewhere", 1)]


def leave_early(processes):
    if processes.rank == 1:
        return None
    return [_message(lambda: processes.gather(1)), _message(lambda: processes.any(True))]


def _message(work):
    try:
        work()
    except TrainingError as error:
        return error.message
    return "no error"


def test_a_process_that_is_gone_is_named_as_the_cause(team):
    messages, _ = team(leave_early)
    for message in messages:
        assert message.startswith("another worker died or hangs (")


def hang(processes):
    if processes.rank == 1:
        time.sleep(4)
        return ""
    return _message(lambda: processes.any(True))


def test_a_process_that_hangs_is_not_waited_for_forever(team):
    message, _ = team(hang, timeout_seconds=3)
    assert message.startswith("another worker died or hangs (")


# The loop, in float64 ------------------------------------------------------------------------


# The MSD block in torch's own wrapper --------------------------------------------------------


# Whole runs ----------------------------------------------------------------------------------


# On GPUs -------------------------------------------------------------------------------------


def gradients_by_nccl(processes):
    """How far the gradients of shares are from those of one process with all images."""
    device = torch.device("cuda", processes.rank)
    torch.cuda.set_device(device)
    torch.manual_seed(0)
    network = MSDModule(1, 1, depth=6, width=1)
    torch.nn.init.normal_(network.final_layer.linear.weight)
    images = torch.randn(4, 1, 24, 25).to(device)
    alone = network.to(device)
    together = copy.deepcopy(alone)
    processes.unite(together)
    alone(images).square().sum().backward()
    share = images[list(processes.share(len(images)))]
    processes.total(together(share).square().sum()).backward()
    processes.average_gradients(together)
    pairs = zip(together.parameters(), alone.parameters(), strict=True)
    errors = [
        ((one.grad - two.grad).abs().max() / two.grad.abs().max()).item() for one, two in pairs
    ]
    return max(errors), processes.any(processes.rank == 0), processes.gather(processes.rank)


@pytest.mark.gpu
@pytest.mark.parametrize("size", [1, 2])
def test_gradients_are_averaged_between_gpus(team, size):
    if torch.cuda.device_count() < size:
        pytest.skip("one CUDA device")
    for error, any_flag, ranks in team(gradients_by_nccl, size=size):
        assert error < 1e-5
        assert (any_flag, ranks) == (True, list(range(size)))
