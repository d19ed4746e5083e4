"""msdtool init"""

from enum import StrEnum
from typing import Annotated

import typer

from msdtool.cli.texts import Output, show
from msdtool.resources import resource_folder

BATCH_SUFFIXES = {"slurm": ".sbatch", "lsf": ".lsf", "pbs": ".pbs", "sge": ".sge"}
"""Of batch scripts, by what their templates' names begin with."""


class Template(StrEnum):
    """The experiments and batch jobs that there is a template for."""

    DENOISE = "denoise"
    SEGMENT = "segment"
    FINETUNE = "finetune"
    SLAB = "slab"
    VOLUME = "volume"
    SEGMENT_VOLUME = "segment-volume"
    SEQUENCE = "sequence"
    NOISE2INVERSE = "noise2inverse"
    NOISE2NOISE = "noise2noise"
    NOISE2VOID = "noise2void"
    CLOSING = "closing"
    CONTEXT = "context"
    SUPERRESOLUTION = "superresolution"
    SLURM_NODE = "slurm-node"
    SLURM_NODES = "slurm-nodes"
    SLURM_PREDICT = "slurm-predict"
    LSF_TRAIN = "lsf-train"
    PBS_TRAIN = "pbs-train"
    SGE_TRAIN = "sge-train"

    @property
    def file(self) -> str:
        """The template's path below configs/."""
        scheduler, _, name = self.value.partition("-")
        suffix = BATCH_SUFFIXES.get(scheduler)
        return f"{self.value}.yaml" if suffix is None else f"{scheduler}/{name}{suffix}"


def command(
    template: Annotated[
        Template,
        typer.Argument(
            metavar="TEMPLATE", show_choices=False, help="The kind of experiment or job."
        ),
    ] = Template.DENOISE,
    output: Output = None,
) -> None:
    """Write a commented config to start from, or a batch script for a cluster.

    denoise and segment are for images, slab for the slices of volumes with their neighbours
    (2.5D), volume and segment-volume for volumes (3D), sequence for image sequences. noise2inverse,
    noise2noise and noise2void need no clean images; finetune starts from a trained network.
    superresolution, closing and context add layers to the network.

    slurm-node and slurm-nodes train on the GPUs of one or several machines; slurm-predict applies
    a network in a job array. lsf-train, pbs-train and sge-train (Grid Engine) train on one GPU.

    Example: msdtool init segment -o cells.yaml
    """
    text = (resource_folder("configs") / template.file).read_text(encoding="utf-8")
    show(text, output)
