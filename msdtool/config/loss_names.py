"""The losses that `training.loss` may name, alone or in a list with weights."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Discriminator, Tag, WithJsonSchema

from msdtool.config import value_schemas
from msdtool.config.values import parse_loss_terms

RegressionLossName = Literal["L1", "L2", "Huber", "L1+SSIM", "L2+SSIM", "MS-SSIM", "FFT", "top_k"]
SegmentationLossName = Literal[
    "cross_entropy", "dice", "cross_entropy+dice", "focal", "tversky", "top_k"
]
LOSSES = {
    "regression": get_args(RegressionLossName),
    "segmentation": get_args(SegmentationLossName),
}
"""Losses that are allowed alone; "+" joins the terms of a mix."""


def _terms(task: str, *others: str) -> tuple[str, ...]:
    return (*dict.fromkeys("+".join(LOSSES[task]).split("+")), *others)


LOSS_TERMS = {
    "regression": _terms("regression", "Gram", "edge", "TV"),
    "segmentation": _terms("segmentation", "boundary", "TV"),
}
"""Losses that are allowed in a list with weights; the last ones see too little to be alone."""


def _loss_kind(value: Any) -> str:
    return "<terms>" if isinstance(value, list) else "<name>"


Loss = Annotated[
    Annotated[Literal[RegressionLossName, SegmentationLossName], Tag("<name>")]
    | Annotated[
        list[dict[str, float]],
        BeforeValidator(parse_loss_terms),
        WithJsonSchema(value_schemas.LOSS_TERMS),
        Tag("<terms>"),
    ],
    Discriminator(_loss_kind),
]
