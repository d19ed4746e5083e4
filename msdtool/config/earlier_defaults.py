"""Defaults that differed in earlier versions.

A run resumes with the values that it was started with: where its config holds a former default and
the experiment does not name a value, the former default is meant.
"""

from typing import Any

from msdtool.config.experiment import ExperimentConfig

TRAINING: dict[str, Any] = {
    "learning_rate": 1e-3,
    "schedule": "constant",
    "warmup": 0,
    "gradient_clip": None,
}
"""Former defaults of the keys of ``training``; ``warmup`` did not exist."""


def with_former_defaults(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the values that a run saved, with what its version did not write."""
    training = tree.get("training")
    return {**tree, "training": {**TRAINING, **training}} if isinstance(training, dict) else tree


def as_started(config: ExperimentConfig, saved: ExperimentConfig) -> ExperimentConfig:
    """Return an experiment with the former defaults that its run was started with."""
    training = config.training
    former = {
        key: value
        for key, value in TRAINING.items()
        if key not in training.model_fields_set and getattr(saved.training, key) == value
    }
    return config.model_copy(update={"training": training.model_copy(update=former)})
