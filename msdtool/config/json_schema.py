"""The JSON schema of experiments, by which editors complete and check configs.

It accepts every valid config. It refuses unknown keys, and values that a key never has; what
depends on several keys, as which of them a loss uses, is mostly left to `msdtool check`.
"""

from typing import Any

from msdtool.config.experiment import ExperimentConfig
from msdtool.config.load import SECTIONS
from msdtool.config.loss_names import LOSS_TERMS, LOSSES
from msdtool.config.value_schemas import absent, given


def json_schema() -> dict[str, Any]:
    """Return the schema, draft 7."""
    schema = ExperimentConfig.model_json_schema(ref_template="#/definitions/{model}")
    schema["definitions"] = schema.pop("$defs")
    for name in SECTIONS:
        if name not in schema["required"]:  # an empty section means its defaults
            schema["properties"][name] = {"anyOf": [schema["properties"][name], {"type": "null"}]}
    tasks = {
        "regression": [
            {"data": absent("labels", "ignore"), "training": absent("class_weights")},
        ],
        "segmentation": [
            {"data": given("labels")},
            {"data": absent("data_range")},
            {"data": {"properties": {"train": absent("splits", "blind_spot")}}},
        ],
    }
    schema["allOf"] = [
        {
            "if": {"properties": {"task": {"const": task}}, "required": ["task"]},
            "then": {"allOf": [{"properties": keys} for keys in (*conditions, _loss(task))]},
        }
        for task, conditions in tasks.items()
    ]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **schema,
        "title": "msdtool experiment",
    }


def _loss(task: str) -> dict[str, Any]:
    """The losses of a task, alone or in a list."""
    terms = list(LOSS_TERMS[task])
    item = {"anyOf": [{"enum": terms}, {"type": "object", "propertyNames": {"enum": terms}}]}
    loss = {"anyOf": [{"enum": list(LOSSES[task])}, {"type": "array", "items": item}]}
    return {"training": {"properties": {"loss": loss}}}
