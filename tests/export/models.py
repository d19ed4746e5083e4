"""Models of random weights, whose images have a unit of their own."""

from pathlib import Path

import torch

from msdtool.architecture import Architecture
from msdtool.nn.build import build_network
from msdtool.nn.scaling import set_denormalising, set_normalising
from msdtool.runs.checkpoint import save_checkpoint
from msdtool.runs.model import Checkpoint, Model, Normalisation
from msdtool.runs.training_progress import TrainingProgress
from msdtool.scaling import Scaling

USUAL = Scaling()


def make_model(
    *,
    c_in=1,
    c_out=1,
    depth=4,
    width=1,
    dilations=(1, 2, 3),
    ndim=2,
    padding="symmetric",
    labels=(),
    slab=0,
    scaling=USUAL,
    **more,
):
    """A model of images of mean 100 and spread 20; a regression's targets have 5 and 3."""
    torch.manual_seed(0)
    architecture = Architecture(c_in, c_out, depth, width, dilations, ndim, padding, **more)
    network = build_network(architecture)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias") or "final_layer" in name:
                parameter.normal_(0, 0.3)
        if labels:  # otherwise one of them is the most probable everywhere
            network.msd.final_layer.linear.bias.zero_()
    targets = ((), ()) if labels else ((5.0,) * c_out, (3.0,) * c_out)
    set_normalising(network.scale_in, (0.0,) * c_in, (1.0,) * c_in)
    set_denormalising(network.scale_out, (0.0,) * c_out, (1.0,) * c_out)
    if not scaling.is_per_image:
        set_normalising(network.scale_in, (100.0,) * c_in, (20.0,) * c_in)
        if not labels:
            set_denormalising(network.scale_out, *targets)
    return Model.of(
        network,
        "segmentation" if labels else "regression",
        architecture,
        Normalisation(
            (100.0,) * c_in,
            (20.0,) * c_in,
            *targets,
            data_range=0.0 if labels else 10.0,
            label_counts=(1,) * len(labels),
        ),
        labels=labels,
        slab=slab,
        scaling=scaling,
    )


def save_model(path: Path, model: Model) -> Path:
    """Write a checkpoint of a model that was trained for one epoch."""
    save_checkpoint(path, Checkpoint(model, {}, TrainingProgress(epoch=1), {}, {}, {}))
    return path
