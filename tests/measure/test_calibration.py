"""The calibration of probabilities, pixel by pixel."""

import math

import numpy as np
import pytest
import torch

from msdtool.data import IGNORED
from msdtool.measure.calibration import BINS, Reliability


def images():
    rng = np.random.default_rng(4)
    for _ in range(2):
        scores = rng.normal(0, 2, (1, 3, 9, 11))
        yield scores, rng.choice([0, 1, 2, IGNORED], (1, 1, 9, 11))


def formula(pairs):
    """Expected calibration error, and by bin (confidence, accuracy, pixels)."""
    bins = [[] for _ in range(BINS)]
    for scores, indices in pairs:
        for place in np.ndindex(9, 11):
            label = indices[0, 0][place]
            if label == IGNORED:
                continue
            exponentials = np.exp(scores[0][(slice(None), *place)])
            probabilities = exponentials / exponentials.sum()
            guess = int(np.argmax(probabilities))
            number = next(k for k in range(BINS) if probabilities[guess] <= (k + 1) / BINS)
            bins[number].append((probabilities[guess], guess == label))
    total = sum(map(len, bins))
    table = [
        (*np.mean(found, 0), len(found)) if found else (math.nan, math.nan, 0) for found in bins
    ]
    error = sum(count / total * abs(right - sure) for sure, right, count in table if count)
    return error, table


def test_the_error_is_the_mean_distance_of_confidence_and_accuracy():
    several = [Reliability() for _ in range(2)]
    for one, (scores, indices) in zip(several, images(), strict=True):
        one.update(torch.tensor(scores), torch.tensor(indices))
    total, other = several
    total.add(other)
    error, table = formula(images())
    found = total.to_dict()
    assert found["expected_calibration_error"] == pytest.approx(error, rel=1e-12)
    rows = zip(found["confidence"], found["accuracy"], found["pixels"], strict=True)
    np.testing.assert_allclose(list(rows), table, rtol=1e-12)
    again = Reliability()
    again.load_state(total.state(), sum(found["pixels"]))
    assert torch.equal(again.sums, total.sums)


def test_probabilities_that_are_kept_to_have_no_error_and_sure_mistakes_have_all():
    scores = torch.log(torch.tensor([0.75, 0.25])).reshape(1, 2, 1, 1).expand(1, 2, 4, 4)
    indices = torch.zeros(1, 1, 4, 4, dtype=torch.int64)
    indices[..., 0, :] = 1
    calibrated, wrong = Reliability(), Reliability()
    calibrated.update(scores, indices)
    assert calibrated.to_dict()["expected_calibration_error"] == pytest.approx(0, abs=1e-6)
    wrong.update(1000 * scores, torch.ones_like(indices))
    assert wrong.to_dict()["expected_calibration_error"] == 1


@pytest.mark.parametrize(
    "state",
    [None, [], [[0.0] * BINS] * 2, [["a"] * BINS] * 3, [[-1.0] * BINS] * 3, [[math.nan] * BINS] * 3,
     [[1.0] * BINS] * 3, [[1.0, *[0.0] * (BINS - 1)], [2.0, *[0.0] * (BINS - 1)], [0.0] * BINS]],
)  # fmt: skip
def test_sums_that_cannot_be_are_refused(state):
    with pytest.raises(ValueError, match="expected"):
        Reliability().load_state(state, 1)
