"""Measuring a network while it is trained."""

import math
from collections.abc import Callable, Generator, Iterator
from functools import partial

import torch
from torch import nn

from msdtool.data import Sample
from msdtool.data.levels import in_data_units, in_own_scale
from msdtool.errors import InputError, TrainingError
from msdtool.measure.metrics import Metrics
from msdtool.measure.without_truth import NoisyScores
from msdtool.nn.memory import out_of_memory
from msdtool.train.baseline import Baseline
from msdtool.train.events import ImageValidated, Validation
from msdtool.train.losses import Loss
from msdtool.train.processes import ALONE, Processes


def validation(
    network: nn.Module,
    device: torch.device,
    loss: Loss,
    metrics: Metrics | None,
    batches: Iterator[Sample],
    name: Callable[[int], str],
    baseline: Baseline | None = None,
    scores: NoisyScores | None = None,
    processes: Processes = ALONE,
) -> Generator[ImageValidated, None, Validation]:
    """Measure the network on batches of one image each; the result is the generator's value.

    Each process measures its share of the images, and all return the result over all images. A
    batch without an index is not of any image, see `msdtool.data.loaders.validation_batches`.

    Args:
        network: it is measured, and left in evaluation mode.
        device: where it is.
        loss: of one image; it must not sum over processes.
        metrics: what to measure besides the loss; None: nothing.
        batches: this process's share of the images.
        name: returns the file name of an image, for messages.
        baseline: computes what doing nothing scores, unless it is known; None: it is not reported.
        scores: what to measure of results where targets are noisy; None: nothing. Of the images
            that have halves, the target is an input of its own, with noise of its own.
        processes: those that measure together.

    Raises:
        InputError: the network cannot process an image.
        TrainingError: an image does not fit in memory.
    """
    network.eval()
    losses: dict[int, float] = {}
    index = 0
    following = partial(processes.together, partial(next, batches, None))
    while (batch := following()) is not None:
        if batch.indices.numel():
            index = int(batch.indices)
            sample = to_device(batch, device)
            try:
                with torch.no_grad():
                    own = in_own_scale(sample)
                    output = network(own.input)
                    losses[index] = float(loss(output, own.target, own.mask))
                    if metrics is not None:
                        shown = in_data_units(output, sample)
                        metrics.update(shown, sample.target, sample.mask)
                    if scores is not None:
                        count = len(sample.target[0])  # bounds follow
                        result = in_data_units(output, sample)[0, :count]
                        other = None
                        if index in scores.halves:
                            other = in_data_units(network(own.target), sample)[0, :count]
                        scores.update(result, other)
                    if baseline is not None:
                        baseline.update(sample.input, sample.target, sample.mask)
            except ValueError as error:
                raise InputError(f"{name(index)}: {error}") from None
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                raise TrainingError(
                    f"{name(index)}: validating an image of shape {tuple(batch.input.shape[1:])} "
                    "does not fit in memory; set data.validation.patch"
                ) from None
        yield ImageValidated(index)
    (losses, metrics, scores), *others = processes.gather((losses, metrics, scores))
    for other_losses, other_metrics, other_scores in others:
        losses |= other_losses
        if scores is not None and other_scores is not None:
            scores.add(other_scores)
        if metrics is not None and other_metrics is not None:
            metrics.add(other_metrics)
    in_order = [losses[index] for index in sorted(losses)]
    return Validation(
        math.fsum(in_order) / len(in_order),
        {
            **({} if metrics is None else metrics.compute()),
            **({} if scores is None else scores.compute()),
        },
        in_order,
        {} if baseline is None else baseline.values(processes),
    )


def to_device(batch: Sample, device: torch.device) -> Sample:
    """Return a batch with its images, and their levels, on the device."""
    # Nobody waits for the copy of pinned memory.
    moved = {
        name: tensor.to(device, non_blocking=True)
        for name, tensor in batch._asdict().items()
        if tensor is not None and name != "indices"
    }
    return batch._replace(**moved)
