"""Applies a trained network to images of any size."""

from msdtool.predict.inputs import Inputs
from msdtool.predict.jobs import Job, check_outputs, plan_jobs, unfinished
from msdtool.predict.predictor import Predictor
from msdtool.predict.work import Prediction, predict

__all__ = [
    "Inputs",
    "Job",
    "Prediction",
    "Predictor",
    "check_outputs",
    "plan_jobs",
    "predict",
    "unfinished",
]
