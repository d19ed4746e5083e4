"""Defaults that differed in earlier versions.

A run resumes with the values that it was started with: where its config holds a former default and
the experiment does not name a value, the former default is meant.
"""

from typing import Any

from msdtool.config.experiment import ExperimentConfig

TRAINING: dict[str, tuple[Any, ...]] = {
    "learning_rate": (1e-3, 1e-2),
    "schedule": ("constant",),
    "warmup": (0,),
    "gradient_clip": (None,),
    "cuda_graphs": (False,),
}
"""Former defaults of the keys of ``training``, the first ones first.

``warmup`` did not exist. Regression still has the second rate.
"""


def with_former_defaults(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the values that a run saved, with what its version did not write."""
    training = tree.get("training")
    if not isinstance(training, dict):
        return tree
    first = {key: values[0] for key, values in TRAINING.items()}
    return {**tree, "training": {**first, **training}}


def as_started(config: ExperimentConfig, saved: ExperimentConfig) -> ExperimentConfig:
    """Return an experiment with the former defaults that its run was started with."""
    training = config.training
    former = {
        key: value
        for key, values in TRAINING.items()
        if key not in training.model_fields_set
        and (value := getattr(saved.training, key)) in values
    }
    return config.model_copy(update={"training": training.model_copy(update=former)})
