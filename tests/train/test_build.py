"""What a config's loss becomes; the losses themselves are tested in test_*losses.py."""

import pytest
import torch

from msdtool.config import load_config
from msdtool.config.loss_names import LOSS_TERMS, LOSSES
from msdtool.config.targets import PIXEL_LOSSES
from msdtool.data import IGNORED
from msdtool.runs.model import Normalisation
from msdtool.train.build import build_loss
from msdtool.train.image_losses import (
    EdgeLoss,
    FourierLoss,
    HardestSquaresLoss,
    MultiScaleSSIMLoss,
    TotalVariationLoss,
)
from msdtool.train.label_losses import BoundaryLoss, FocalLoss, HardestEntropyLoss, TverskyLoss
from msdtool.train.losses import (
    CrossEntropyLoss,
    DiceLoss,
    GramLoss,
    RegressionLoss,
    SSIMLoss,
)
from tests.helpers import write_experiment

MEAN, STD, DATA_RANGE = [0.3, 0.1], [1.7, 0.4], 3.0
COUNTS = [100, 7, 30]

L1, L2 = RegressionLoss("L1", STD), RegressionLoss("L2", STD)
SSIM = SSIMLoss(DATA_RANGE)
REGRESSIONS = {
    "L1": ({"loss": "L1"}, [(1, L1)]),
    "Huber": ({"loss": "Huber", "huber_delta": 0.3},
              [(1, RegressionLoss("Huber", STD, huber_delta=0.3))]),
    "L1 mix": ({"loss": "L1+SSIM"}, [(0.16, L1), (0.84, SSIM)]),
    "L2 mix": ({"loss": "L2+SSIM", "ssim_weight": 0.3}, [(0.7, L2), (0.3, SSIM)]),
    "list": ({"loss": [{"L2": 2}, {"SSIM": 0.5}, {"Gram": 3}]},
             [(2, L2), (0.5, SSIM), (3, GramLoss(MEAN, STD, 2))]),
    "scales": ({"loss": "MS-SSIM", "ms_ssim_scales": 1}, [(1, MultiScaleSSIMLoss(DATA_RANGE, 1))]),
    "edges": ({"loss": [{"FFT": 2}, {"edge": 0.5}, {"TV": 0.1}]},
              [(2, FourierLoss(STD)), (0.5, EdgeLoss(STD)), (0.1, TotalVariationLoss(STD))]),
    "hard": ({"loss": "top_k", "top_k_fraction": 0.3}, [(1, HardestSquaresLoss(STD, 0.3))]),
}  # fmt: skip
ENTROPY, DICE = CrossEntropyLoss(), DiceLoss()
BALANCED = CrossEntropyLoss([sum(COUNTS) / (3 * count) for count in COUNTS])
SEGMENTATIONS = {
    "entropy": ({"loss": "cross_entropy"}, [(1, ENTROPY)]),
    "balanced": ({"loss": "cross_entropy", "class_weights": "balanced"}, [(1, BALANCED)]),
    "mix": ({"loss": "cross_entropy+dice"}, [(1, ENTROPY), (1, DICE)]),
    "weights": ({"loss": [{"dice": 2}, {"cross_entropy": 0.5}], "class_weights": [3, 1, 2]},
                [(2, DICE), (0.5, CrossEntropyLoss([3, 1, 2]))]),
    "focal": ({"loss": "focal", "focal_gamma": 1.5, "class_weights": [3, 1, 2]},
              [(1, FocalLoss(1.5, [3, 1, 2]))]),
    "tversky": ({"loss": "tversky", "tversky_alpha": 0.2, "tversky_beta": 0.9},
                [(1, TverskyLoss(0.2, 0.9))]),
    "hard": ({"loss": "top_k", "top_k_fraction": 0.3}, [(1, HardestEntropyLoss(0.3))]),
    "smooth": ({"loss": [{"dice": 2}, {"boundary": 0.5}, {"TV": 0.1}]},
               [(2, DICE), (0.5, BoundaryLoss()), (0.1, TotalVariationLoss(labels=True))]),
}  # fmt: skip


def built(tmp_path, task, training):
    data = {"train": {"input": "a", "target": "b"}}
    is_segmentation = task == "segmentation"
    sections = {"data": {**data, **({"labels": 3} if is_segmentation else {})}}
    config = write_experiment(tmp_path / "a.yaml", {**sections, "task": task, "training": training})
    normalisation = Normalisation(
        input_mean=(),
        input_std=(),
        target_mean=tuple(MEAN),
        target_std=tuple(STD),
        data_range=DATA_RANGE,
        label_counts=tuple(COUNTS) if is_segmentation else (),
    )
    return build_loss(load_config(config), normalisation)


TERMS = [(task, name) for task, names in LOSS_TERMS.items() for name in names]


@pytest.mark.parametrize(("task", "name"), TERMS)
def test_every_term_that_a_config_may_name_is_built(tmp_path, task, name):
    other = next(one for one in LOSSES[task] if one != name)
    loss = built(tmp_path, task, {"loss": [{name: 2}, {other: 1}]})
    (_, first), _ = loss.terms
    assert isinstance(first, RegressionLoss) == (name in PIXEL_LOSSES)


@pytest.mark.parametrize(
    ("task", "name"), [(t, name) for t, names in LOSSES.items() for name in names]
)
def test_every_loss_that_a_config_may_name_is_built(tmp_path, task, name):
    assert len(built(tmp_path, task, {"loss": name}).terms) == 1 + name.count("+")


def check_is_sum(loss, terms, output, target):
    mask = torch.rand(2, 1, 13, 14) < 0.6
    for chosen in (None, mask):
        expected = sum(weight * term(output, target, chosen) for weight, term in terms)
        torch.testing.assert_close(loss(output, target, chosen), expected)


@pytest.mark.parametrize("name", REGRESSIONS)
def test_a_regression_minimises_the_weighted_terms_of_its_loss(tmp_path, name):
    training, terms = REGRESSIONS[name]
    output, target = torch.rand(2, 2, 2, 13, 14).unbind()
    check_is_sum(built(tmp_path, "regression", training), terms, output, target)


@pytest.mark.parametrize("name", SEGMENTATIONS)
def test_a_segmentation_minimises_the_weighted_terms_of_its_loss(tmp_path, name):
    training, terms = SEGMENTATIONS[name]
    target = torch.randint(-1, 3, (2, 1, 13, 14))
    target = torch.where(target < 0, IGNORED, target)
    check_is_sum(
        built(tmp_path, "segmentation", training), terms, torch.randn(2, 3, 13, 14), target
    )
