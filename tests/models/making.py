"""Models and batches for the tests of models."""

import pytest
import torch

from msdtool import MSDRegressionModel, MSDSegmentationModel

DILATIONS = [1, 2, 3]


def make_model(task="regression", ndim=2, seed=0, **options):
    torch.manual_seed(seed)
    kind = {"regression": MSDRegressionModel, "segmentation": MSDSegmentationModel}[task]
    c_out = 1 if task == "regression" else 3
    return kind(2, c_out, 3, 1, dilations=DILATIONS, ndim=ndim, device="cpu", **options)


def make_batch(task="regression", ndim=2, seed=0, batch=2):
    rng = torch.Generator().manual_seed(seed)
    space = (5, 6, 7)[:ndim]
    input = 3 + torch.rand(batch, 2, *space, generator=rng)
    if task == "regression":
        return input, 50 + 9 * input.mean(1, keepdim=True)
    return input, torch.randint(3, (batch, 1, *space), generator=rng)


def state(model):
    return {name: tensor.clone() for name, tensor in model.net.state_dict().items()}


both_tasks = pytest.mark.parametrize("task", ["regression", "segmentation"])


both_dims = pytest.mark.parametrize("ndim", [2, 3])
