"""Applying a trained network to images on disk, of any size."""

from msdtool.predict.jobs import Job, check_outputs, num_images, plan_jobs
from msdtool.predict.predictor import Predictor
from msdtool.predict.work import Prediction, predict

__all__ = [
    "Job",
    "Prediction",
    "Predictor",
    "check_outputs",
    "num_images",
    "plan_jobs",
    "predict",
]
