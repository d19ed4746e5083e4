"""A whole experiment: its sections, and what follows from several of them together."""

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError

from msdtool.config.agreement import find_problems
from msdtool.config.data_schema import DataConfig
from msdtool.config.schema import (
    SEGMENTATION_RATE,
    NetworkConfig,
    RunConfig,
    StreamConfig,
    TrainingConfig,
)
from msdtool.config.section import Section
from msdtool.config.yaml_file import KeyPath, Origin
from msdtool.errors import ConfigError


class ExperimentConfig(Section):
    """A whole experiment."""

    task: Literal["regression", "segmentation"] = Field(description="what the network is for")
    data: DataConfig
    network: NetworkConfig = Field(default_factory=NetworkConfig)
    stream: StreamConfig | None = Field(
        None,
        description="treat each volume (`network.ndim: 3`) as an image sequence: hidden layers "
        "work frame by frame, only temporal layers in `network.stem` and `network.head` link a "
        "frame to earlier ones. Prediction then needs memory for a few frames only",
    )
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    run: RunConfig = Field(default_factory=RunConfig)

    @model_validator(mode="before")
    @classmethod
    def _default_loss(cls, value: Any) -> Any:
        """The default loss depends on the task, so the saved config names the one used."""
        if not isinstance(value, dict) or value.get("task") != "segmentation":
            return value
        training = value.get("training") or {}
        if not isinstance(training, dict):
            return value
        return {**value, "training": {"loss": "cross_entropy", **training}}

    @model_validator(mode="wrap")
    @classmethod
    def _default_rate(cls, value: Any, validated: ModelWrapValidatorHandler[Self]) -> Self:
        """The default learning rate depends on the task, too; a rate that is named stays."""
        config = validated(value)
        training = config.training
        if config.task == "regression" or "learning_rate" in training.model_fields_set:
            return config
        values = {**training.__dict__, "learning_rate": SEGMENTATION_RATE}
        # Unlike a copy with an update, this one does not name the key.
        filled = TrainingConfig.model_construct(training.model_fields_set, **values)
        return config.model_copy(update={"training": filled})

    @model_validator(mode="after")
    def _keys_agree(self) -> "ExperimentConfig":
        problems = find_problems(self.task, self.data, self.network, self.stream, self.training)
        if problems:
            raise PydanticCustomError("keys_disagree", "keys disagree", {"problems": problems})
        return self

    _origin: Origin = PrivateAttr(default_factory=Origin)

    def error(self, path: KeyPath, message: str) -> ConfigError:
        """An error about a key that is only found when the network is built, with file and line."""
        return ConfigError(self._origin.describe(path, message))

    def starting_from(self, sha256: str | None) -> "ExperimentConfig":
        """Return the experiment with the digest of its initial network."""
        training = self.training.model_copy(update={"initial_sha256": sha256})
        return self.model_copy(update={"training": training})

    @property
    def label_values(self) -> list[int]:
        """Label values in the target images, in the order of the network's output channels."""
        return self.data.label_values

    @property
    def num_labels(self) -> int:
        """Number of labels; 0 for regression."""
        return len(self.data.label_values)

    def num_outputs(self, target_channels: int) -> int:
        """Channels of the network's output, for targets of so many."""
        return self.num_labels or self.output_groups * target_channels

    @property
    def output_groups(self) -> int:
        """How many values the network outputs for each of a target: itself, and two bounds."""
        return 1 if self.training.interval is None else 3

    def convolved(self, size: Sequence[int]) -> tuple[int, ...]:
        """The part of a size, per spatial axis, that the network's convolutions extend over."""
        return tuple(size) if self.stream is None else self.stream.frame_size(size)

    @property
    def crop_size(self) -> tuple[int, ...] | None:
        """Crop size per spatial axis, or None for whole images."""
        return self.data.crop_size(self.network.ndim)
