"""Two processes that train together come to the result of one."""

import copy
import itertools
import math
import time

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD

from msdtool.config import load_config
from msdtool.data import IGNORED, Sample
from msdtool.data.loaders import DummyBatch, Shard, _without_effect
from msdtool.errors import Error, FailedElsewhere, InputError, TrainingError
from msdtool.nn import MSDBlock2d, MSDModule
from msdtool.runs.checkpoint import load_checkpoint
from msdtool.runs.rundir import RunDirectory
from msdtool.train.events import StepDone
from msdtool.train.image_losses import (
    EdgeLoss,
    FourierLoss,
    HardestSquaresLoss,
    MultiScaleSSIMLoss,
    TotalVariationLoss,
)
from msdtool.train.label_losses import BoundaryLoss, FocalLoss, HardestEntropyLoss, TverskyLoss
from msdtool.train.loop import Learner, Plan, train
from msdtool.train.losses import (
    CrossEntropyLoss,
    DiceLoss,
    GramLoss,
    RegressionLoss,
    SSIMLoss,
    WeightedSum,
)
from msdtool.train.optim import Schedule
from msdtool.train.prepare import prepare_run
from msdtool.train.processes import ALONE
from tests.helpers import LABELS, write_experiment, write_labelled_pairs, write_noisy_pairs
from tests.train.running import check_same, finish, open_run, plain_rows

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


def make_samples(count, size, *, labels=0, masked=False):
    """Images with targets, of which not all pixels count and in no two images as many."""
    rng = torch.Generator().manual_seed(5)
    samples = []
    for index in range(count):
        shape = (1, 1, size, size)
        input = torch.rand(shape, generator=rng, dtype=torch.float64)
        counts = torch.rand(shape, generator=rng) < (index + 1) / (count + 1)
        target, mask = 3 * input + torch.rand(shape, generator=rng), counts if masked else None
        if labels:
            target = torch.randint(0, labels, shape, generator=rng)
            target, mask = torch.where(counts, target, IGNORED), None
        samples.append(Sample(input, target, mask, torch.tensor([index])))
    return samples


def join(samples):
    first, *_ = samples
    return Sample(
        torch.cat([sample.input for sample in samples]),
        torch.cat([sample.target for sample in samples]),
        None if first.mask is None else torch.cat([sample.mask for sample in samples]),
        torch.cat([sample.indices for sample in samples]),
    )


LOSSES = {
    "L2": (lambda total: RegressionLoss("L2", [2.0], total=total), {}),
    "masked Huber": (lambda total: RegressionLoss("Huber", total=total), {"masked": True}),
    "masked SSIM mix": (
        lambda total: WeightedSum(
            [(0.16, RegressionLoss("L1", total=total)), (0.84, SSIMLoss(4.0, total=total))]
        ),
        {"masked": True},
    ),
    "masked MS-SSIM": (
        lambda total: MultiScaleSSIMLoss(4.0, 1, total=total),
        {"masked": True},
    ),
    "masked edges, frequencies, variation and hard pixels": (
        lambda total: WeightedSum(
            [
                (1.0, EdgeLoss([2.0], total=total)),
                (0.5, FourierLoss([2.0], total=total)),
                (0.1, TotalVariationLoss([2.0], total=total)),
                (1.0, HardestSquaresLoss([2.0], 0.3, total=total)),
            ]
        ),
        {"masked": True},
    ),
    "Gram": (lambda total: GramLoss([0.0], [1.0], 2, total=total), {"masked": True}),
    "weighted": (lambda total: CrossEntropyLoss([1.0, 2.0, 0.5], total=total), {"labels": 3}),
    "dice": (
        lambda total: WeightedSum(
            [(1.0, CrossEntropyLoss(total=total)), (1.0, DiceLoss(total=total))]
        ),
        {"labels": 3},
    ),
    "rare labels, boundaries and hard pixels": (
        lambda total: WeightedSum(
            [
                (1.0, FocalLoss(2.0, [1.0, 2.0, 0.5], total=total)),
                (1.0, TverskyLoss(total=total)),
                (0.3, BoundaryLoss(total=total)),
                (0.1, TotalVariationLoss(labels=True, total=total)),
                (0.5, HardestEntropyLoss(0.3, total=total)),
            ]
        ),
        {"labels": 3},
    ),
}


def train_batches(processes, name, batches, accumulate, freeze=False, poison=None):
    """Train on batches of sample numbers; return the weights and losses."""
    make_loss, kind = LOSSES[name]
    samples = make_samples(7, 12, **kind)
    if poison is not None:
        samples[poison].input[0, 0, 3, 3] = math.nan
    torch.manual_seed(0)
    network = MSDModule(1, kind.get("labels", 1), 3, 2, [1, 2, 3]).double()
    torch.nn.init.normal_(network.final_layer.linear.weight, std=0.3)
    if freeze:
        network.msd_block.weight1.requires_grad_(False)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = SGD(trained, 0.05)
    learner = Learner(
        network,
        make_loss(processes.total),
        optimizer,
        Schedule("constant", optimizer, 1),
        CPU,
        processes=processes,
    )
    shares = Shard(batches, processes.rank, processes.size)

    def load():
        for share in shares:
            batch = join([samples[index] for index in share])
            yield _without_effect(batch) if isinstance(share, DummyBatch) else batch

    plan = Plan(1, len(batches), accumulate=accumulate, gradient_clip=1.0)
    events = train(learner, plan, load(), None, "file{}.tif".format)
    losses = [event.loss for event in itertools.islice(events, -(-len(batches) // accumulate))]
    return losses, [parameter.detach().clone() for parameter in network.parameters()]


BATCHES = [[0, 1, 2], [3, 4], [5], [6, 0, 1, 2]]


@pytest.mark.parametrize("name", LOSSES)
def test_two_processes_make_the_steps_of_one(team, name):
    """Shares of unequal size, an empty one, pixels that do not count, accumulated gradients."""
    for accumulate in (1, 3):
        losses, weights = train_batches(ALONE, name, BATCHES, accumulate)
        assert len(set(losses)) == len(losses)
        for found_losses, found in team(train_batches, name, BATCHES, accumulate):
            assert found_losses == pytest.approx(losses, rel=1e-11)
            torch.testing.assert_close(found, weights, rtol=1e-10, atol=1e-12)


def normalised_steps(processes, affine, momentum):
    """Train a network with a batch norm on batches of 3; return its state and an output."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3),
        torch.nn.Sequential(torch.nn.BatchNorm2d(4, momentum=momentum, affine=affine)),
        torch.nn.ReLU(),
        torch.nn.Conv2d(4, 1, 1),
    ).double()
    parallel = processes.parallel(network)
    optimizer = SGD(network.parameters(), 0.1)
    loss = RegressionLoss("L2", total=processes.total)
    rng = torch.Generator().manual_seed(1)
    for _ in range(3):
        input = torch.rand(3, 1, 7, 6, generator=rng, dtype=torch.float64)
        share = input[processes.rank :: processes.size]
        optimizer.zero_grad()
        loss(parallel(share), share[..., 1:-1, 1:-1].square()).backward()
        optimizer.step()
    network.eval()
    return network.state_dict(), network(input).detach()


@pytest.mark.parametrize(("affine", "momentum"), [(True, 0.1), (False, None)])
def test_statistics_of_batch_norms_are_those_of_all_processes(team, affine, momentum):
    state, output = normalised_steps(ALONE, affine, momentum)
    for found_state, found in team(normalised_steps, affine, momentum):
        assert found_state.keys() == state.keys()
        for key, value in state.items():
            torch.testing.assert_close(found_state[key], value, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(found, output, rtol=1e-10, atol=1e-12)


def test_frozen_layers_are_left_alone(team):
    losses, weights = train_batches(ALONE, "L2", BATCHES, 1, freeze=True)
    for found_losses, found in team(train_batches, "L2", BATCHES, 1, True):
        assert found_losses == pytest.approx(losses, rel=1e-11)
        torch.testing.assert_close(found, weights, rtol=1e-10, atol=1e-12)


def test_a_loss_that_is_not_finite_stops_all_and_the_whole_batch_is_named(team):
    main, other = team(train_batches, "L2", BATCHES, 1, False, 1)
    assert isinstance(main, TrainingError)
    assert "the loss is not finite at step 1 (epoch 1), in the batch of file0.tif, file2.tif, " in (
        main.message
    )
    assert "file1.tif" in main.message
    assert isinstance(other, FailedElsewhere)


# The MSD block in torch's own wrapper --------------------------------------------------------


def wrapped_gradients(processes, module, static_graph):
    """The gradients of two steps; the buckets of DistributedDataParallel change in between."""
    torch.manual_seed(0)
    if module == "block":
        network = torch.nn.Sequential(MSDBlock2d(2, [1, 2, 3], 2), torch.nn.Conv2d(8, 1, 1))
    elif module == "module":
        network = MSDModule(2, 1, 3, 2, [1, 2, 3])
        torch.nn.init.normal_(network.final_layer.linear.weight)
    network = network.double()
    wrapped = network
    if processes.size > 1:
        wrapped = DistributedDataParallel(network, static_graph=static_graph)
    rng = torch.Generator().manual_seed(1)
    for _ in range(2):
        network.zero_grad()
        input = torch.rand(2, 2, 9, 8, generator=rng, dtype=torch.float64)
        share = input[processes.rank :: processes.size]
        wrapped(share).square().mean().backward()
    return [parameter.grad for parameter in network.parameters()]


@pytest.mark.parametrize("static_graph", [False, True])
@pytest.mark.parametrize("module", ["block", "module"])
def test_gradients_of_a_block_that_computes_in_place_are_averaged(team, module, static_graph):
    expected = wrapped_gradients(ALONE, module, static_graph)
    for found in team(wrapped_gradients, module, static_graph):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)


# Whole runs ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    """Shares of unequal size, also in validation; masks are tested above."""
    folder = tmp_path_factory.mktemp("regression")
    data = {
        "train": write_noisy_pairs(folder / "train", 7, (14, 17)),
        "validation": write_noisy_pairs(folder / "validation", 3, (12, 13), seed=1),
        "crop": 12,
        "augment": True,
    }
    training = {"epochs": 3, "batch_size": 3, "schedule": "plateau", "learning_rate": 0.01}
    sections = {"data": data, "training": training, "run": {"previews": True}}
    return write_experiment(folder / "config.yaml", sections)


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmentation")
    data = {
        "train": write_labelled_pairs(folder / "train", 5),
        "validation": write_labelled_pairs(folder / "validation", 3, seed=1),
        "labels": LABELS,
    }
    training = {"batch_size": 2, "accumulate": 2, "class_weights": "balanced"}
    sections = {"task": "segmentation", "data": data, "training": training}
    return write_experiment(folder / "config.yaml", sections)


def train_run(processes, config, overrides, stop_after=None, resume=False):
    """Train, or stop as if a signal had come to the last process; return what it says."""
    steps = 0

    def should_stop():
        return stop_after is not None and processes.rank == 1 and steps >= stop_after

    try:
        run = prepare_run(
            load_config(config, overrides),
            resume=resume,
            processes=processes,
            should_stop=should_stop,
        )
        for event in run.events():
            steps += isinstance(event, StepDone)
    except Error as error:
        return type(error).__name__, error.message, error.exit_code
    return run.learner.progress.step


def numbers(row):
    """The numbers of an epoch's row, those of single labels included."""
    flat = {k: v for k, v in row.items() if not isinstance(v, (dict, str))}
    per_label = {(k, i): x for k, v in row.items() if isinstance(v, dict) for i, x in v.items()}
    return flat | per_label


@pytest.mark.parametrize("kind", ["regression", "segmentation"])
def test_two_processes_train_like_one(team, kind, request, tmp_path):
    config = request.getfixturevalue(kind)
    expected = finish(open_run(config, f"run.directory={tmp_path}/one"))
    team(train_run, config, [f"run.directory={tmp_path}/two"])
    found = RunDirectory(tmp_path / "two")
    assert sorted(p.name for p in found.path.rglob("*")) == sorted(
        p.name for p in expected.path.rglob("*")
    )
    for row, expected_row in zip(plain_rows(found), plain_rows(expected), strict=True):
        assert numbers(row) == pytest.approx(numbers(expected_row), rel=1e-4)
    model, expected_model = (load_checkpoint(d.last).model for d in (found, expected))
    for key, value in expected_model.normalisation.to_dict().items():
        assert model.normalisation.to_dict()[key] == pytest.approx(value, rel=1e-14)
    for key, value in expected_model.state.items():
        torch.testing.assert_close(model.state[key], value, rtol=1e-3, atol=1e-5)


def test_two_processes_start_from_a_network_and_keep_what_is_frozen(team, regression, tmp_path):
    first = finish(open_run(regression, f"run.directory={tmp_path}/first")).best
    options = [f"training.initial={first}", "training.freeze=[{block: 2}]", "training.average=0.5"]
    options += ["training.optimizer=adamw", "training.weight_decay=0.1", "training.seed=5"]
    one = finish(open_run(regression, *options, f"run.directory={tmp_path}/one"))
    team(train_run, regression, [*options, f"run.directory={tmp_path}/two"])
    paths = (one.last, RunDirectory(tmp_path / "two").last, first)
    expected, found, initial = (load_checkpoint(path).model.state for path in paths)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-5)
    for state in (found, expected):
        for layer in range(3):
            weight = f"msd.msd_block.weight{layer}"
            assert torch.equal(state[weight], initial[weight]) == (layer < 2)
        bias, before = state["msd.msd_block.bias"], initial["msd.msd_block.bias"]
        assert (bias == before).tolist() == [True, True, *[False] * (len(bias) - 2)]


def test_a_stop_on_one_process_stops_all_at_one_step_and_resume_ends_alike(
    team, regression, tmp_path
):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert team(train_run, regression, [f"run.directory={whole}"]) == [9, 9]
    for steps in (2, 0, 1):  # at step 3, in the validation after it, at step 5
        main, other = team(train_run, regression, [f"run.directory={parts}"], steps, True)
        assert main[0] == "Stopped"
        assert other == ("FailedElsewhere", FailedElsewhere(75).message, 75)
    assert "stopped at step 5, epoch 2; checkpoint saved" in main[1]
    team(train_run, regression, [f"run.directory={parts}"], None, True)
    check_same(RunDirectory(parts), RunDirectory(whole))


def test_three_processes_round_alike_after_a_resume(team, regression, tmp_path):
    """The order in which three numbers are added up matters; see _mean_in_fixed_order."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = ["network.depth=20", "training.learning_rate=0.01"]
    for directory, stop_after in ((whole, None), (parts, 2), (parts, 1), (parts, None)):
        overrides = [f"run.directory={directory}", *options]
        team(train_run, regression, overrides, stop_after, True, size=3)
    check_same(RunDirectory(parts), RunDirectory(whole))


def test_a_run_of_two_processes_may_go_on_with_one(team, regression, tmp_path):
    overrides = [f"run.directory={tmp_path}/run"]
    team(train_run, regression, overrides, 2)
    run = open_run(regression, *overrides, resume=True)
    assert run.learner.progress.step == 3
    finish(run)
    assert run.learner.progress.finished == "all 3 epochs are done"


def test_a_file_that_only_one_process_reads_stops_both(team, tmp_path):
    data = {"train": write_noisy_pairs(tmp_path / "train", 4)}
    config = write_experiment(
        tmp_path / "config.yaml", {"data": data, "training": {"batch_size": 2}}
    )
    bad = tmp_path / "train" / "noisy" / "image_001.tif"
    bad.write_bytes(b"junk")
    main, other = team(train_run, config, [])
    assert main == ("FailedElsewhere", FailedElsewhere(3).message, 3)
    assert (other[0], other[2]) == ("InputError", 3)
    assert other[1].startswith(f"{bad}: cannot be read as an image")


def train_until_trouble(processes, config, spoilt, disk_is_full):
    """Train; before the first step a file is spoilt, or the disk fills up."""
    run = prepare_run(load_config(config), processes=processes)
    if spoilt is not None:
        processes.on_main(lambda: spoilt.write_bytes(b"junk"))
    events = run.events()
    next(events)
    if disk_is_full and processes.is_main:
        run.record.save = refuse_to_save
    try:
        for _ in events:
            pass
    except Error as error:
        return type(error).__name__, error.message, error.exit_code
    return "no error"


def refuse_to_save(*, best):
    raise Error("no space left")


@pytest.mark.parametrize("kind", ["train", "validation"])
def test_a_file_that_goes_bad_ends_both_with_one_error(team, tmp_path, kind):
    """Validation files are read for the first time after an epoch."""
    data = {name: write_noisy_pairs(tmp_path / name, 4) for name in ("train", "validation")}
    config = write_experiment(
        tmp_path / "config.yaml", {"data": data, "training": {"batch_size": 2, "epochs": 2}}
    )
    bad = tmp_path / kind / "noisy" / "image_001.tif"
    answers = team(train_until_trouble, config, bad, False)
    (mine,) = [answer for answer in answers if answer[0] == "InputError"]
    assert mine[1].startswith(f"{bad}: cannot be read as an image")
    (other,) = [answer for answer in answers if answer is not mine]
    assert other == ("FailedElsewhere", FailedElsewhere(3).message, 3)


@pytest.mark.parametrize("option", [{}, {"checkpoint_every": 1e-9}])
def test_a_checkpoint_that_cannot_be_written_ends_both_with_one_error(team, tmp_path, option):
    data = {"train": write_noisy_pairs(tmp_path / "train", 4)}
    config = write_experiment(
        tmp_path / "config.yaml", {"data": data, "training": {"batch_size": 2, **option}}
    )
    answers = team(train_until_trouble, config, None, True)
    assert answers == [
        ("Error", "no space left", 1),
        ("FailedElsewhere", FailedElsewhere(1).message, 1),
    ]


def test_a_directory_that_holds_a_run_is_refused_once(team, regression, regression_run):
    overrides = [f"run.directory={regression_run}"]
    main, other = team(train_run, regression, overrides)
    assert main[0] == "RunDirectoryError"
    assert "already holds a run" in main[1]
    assert other[0] == "FailedElsewhere"


def test_a_batch_must_have_an_image_for_each_process(team, regression):
    main, other = team(train_run, regression, ["training.batch_size=1"])
    assert main == (
        "ConfigError",
        "training.batch_size: 1 cannot be shared by 2 processes; it counts the images of all "
        "processes: set 2 or more, or start fewer processes",
        2,
    )
    assert other[0] == "FailedElsewhere"


def test_time_that_is_up_is_up_for_all(team, regression, tmp_path):
    overrides = [f"run.directory={tmp_path}/run", "training.max_time=0.001", "training.epochs=99"]
    assert team(train_run, regression, overrides) == [1, 1]
    progress = load_checkpoint(RunDirectory(tmp_path / "run").last).progress
    assert progress.finished == "the time of 0.001 s is used up"


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
    together = processes.parallel(copy.deepcopy(alone))
    alone(images).square().sum().backward()
    for _ in range(2):  # DistributedDataParallel moves its buckets after the first step
        together.zero_grad(set_to_none=True)
        share = images[list(processes.share(len(images)))]
        processes.total(together(share).square().sum()).backward()
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
