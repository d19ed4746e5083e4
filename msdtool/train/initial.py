"""Fine-tuning: a network that starts from the weights of another one."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msdtool.architecture import Architecture, HiddenLayers, OuterLayers
from msdtool.config import ExperimentConfig
from msdtool.errors import ConfigError, ModelFileError
from msdtool.nn.build import restore_network
from msdtool.nn.scaling import ScaledNetwork
from msdtool.nn.yaml_layers.general import CONVOLUTION
from msdtool.plain_data import shown
from msdtool.runs.checkpoint import find_model, load_checkpoint, open_file
from msdtool.runs.model import Model, Normalisation

Key = tuple[str, ...]
"""The path of a key in the config."""

KEY: Key = ("training", "initial")
FINAL = "msd.final_layer."


@dataclass(frozen=True)
class Initial:
    """A network to start from, which fits the experiment.

    Attributes:
        path: its checkpoint.
        sha256: of that file.
        model: the network.
        has_output: its last layers fit, too; if not, they start from scratch.
    """

    path: Path
    sha256: str
    model: Model
    has_output: bool

    def start(
        self, network: ScaledNetwork, measured: Normalisation, *, keep: bool
    ) -> Normalisation:
        """Give a new network these weights.

        Args:
            network: of the experiment; its scaling layers have the measured normalisation.
            measured: statistics of the training set.
            keep: scale images as this network does.

        Returns:
            What images are scaled by; the range of values and the labels are always the new ones.
        """
        new = () if self.has_output else (FINAL, "head.", "scale_out.")
        new = new if keep else (*new, "scale_in.", "scale_out.")
        state = {k: v for k, v in self.model.state.items() if not k.startswith(new)}
        network.load_state_dict({**network.state_dict(), **state})
        if not keep:
            return measured
        found = self.model.normalisation
        kept = replace(measured, input_mean=found.input_mean, input_std=found.input_std)
        if self.has_output and not measured.label_counts:
            kept = replace(kept, target_mean=found.target_mean, target_std=found.target_std)
        return kept

    def describe(self, config: ExperimentConfig, measured: Normalisation) -> Iterator[str]:
        """Say what the network starts from, for the log.

        Args:
            config: the experiment.
            measured: statistics of its training set.
        """
        yield f"starting from {self.path}, SHA-256 {self.sha256}"
        if not self.has_output:
            yield (
                f"it was made for {_output_text(self.model)}; this experiment has "
                f"{config.num_labels or len(measured.target_mean)} "
                f"{'labels' if config.num_labels else 'output channels'}: the final layer "
                f"{'and the head are' if config.network.head else 'is'} new"
            )
        elif list(self.model.labels) != config.label_values:
            yield (
                f"its labels are {shown(list(self.model.labels))}; the same outputs now stand for "
                f"{shown(config.label_values)}"
            )
        found = self.model.normalisation
        how = config.training.initial_normalisation
        yield (
            f"training inputs have the mean {_figures(measured.input_mean)} and the standard "
            f"deviation {_figures(measured.input_std)}; those of the initial network had "
            f"{_figures(found.input_mean)} and {_figures(found.input_std)}; images are scaled by "
            f"{'the new' if how == 'measure' else 'its'} statistics "
            f"(training.initial_normalisation: {how})"
        )


def load_initial(config: ExperimentConfig, planned: Architecture) -> Initial | None:
    """Read the network that an experiment starts from; None if it starts from random weights.

    Args:
        config: the experiment.
        planned: the network that it needs.

    Raises:
        ConfigError: it is another file than expected, or does not fit; names file, line and key
            of all that differs.
        ModelFileError: it cannot be read.
    """
    training = config.training
    if training.initial is None:
        return None
    try:
        path = find_model(training.initial)
        with open_file(path) as file:
            sha256 = hashlib.sha256(file.read()).hexdigest()
        model = load_checkpoint(path).model
        restore_network(model.architecture, model.state)
    except ModelFileError as error:
        raise ModelFileError(config.error(KEY, error.message).message) from None
    except ValueError as error:
        raise ModelFileError(config.error(KEY, f"{path}: is damaged: {error}").message) from None
    if training.initial_sha256 not in (None, sha256):
        raise config.error(
            ("training", "initial_sha256"),
            f"{path} has {sha256}: it is another network; restore the one that was meant, or "
            "remove this key",
        )
    kinds = config.task, planned.c_out, config.output_groups > 1
    has_output = (model.task, model.architecture.c_out, model.interval > 0) == kinds
    problems = [
        config.error(key, f"got {got}; training.initial, {path}, {other}").message
        for key, got, other in _problems(config, planned, model, has_output)
    ]
    if "head" in training.freeze and not has_output:
        message = f"head: it is new, since training.initial was made for {_output_text(model)}"
        problems.append(config.error(("training", "freeze"), message).message)
    if problems:
        raise ConfigError("\n".join(problems))
    return Initial(path, sha256, model, has_output)


def _problems(
    config: ExperimentConfig, planned: Architecture, model: Model, has_output: bool
) -> Iterator[tuple[Key, str, str]]:
    """Keys that do not fit the network: what they ask for, and what it has."""
    found = model.architecture
    for key in ("depth", "width", "ndim", "padding"):
        if getattr(found, key) != getattr(planned, key):
            yield ("network", key), getattr(planned, key), f"has {getattr(found, key)}"
    if found.depth == planned.depth and _dilations(found) != _dilations(planned):
        yield (
            ("network", "dilations"),
            shown(list(planned.dilations)),
            f"has {shown(list(found.dilations))}",
        )
    axes = [None if of.stream is None else of.stream.axis for of in (planned, found)]
    if axes[0] != axes[1]:
        yield ("stream",), _stream_text(axes[0]), _stream_text(axes[1])
    for key, got, other in _layers(planned, found, has_output):
        if got != other:
            yield ("network", key), shown(got), f"has {shown(other)}"
    keeps = config.training.initial_normalisation == "keep"
    scalings = config.data.normalisation.to_scaling(), model.scaling
    if keeps and scalings[0] != scalings[1]:
        yield ("data", "normalisation"), str(scalings[0]), f"scales images by: {scalings[1]}"
    if model.slab != config.data.slab:
        yield ("data", "slab"), str(config.data.slab), f"has {model.slab}"
    elif found.c_in != planned.c_in:
        yield ("data", "train"), f"inputs of {planned.c_in} channels", f"takes {found.c_in}"
    splits = len(config.data.train.splits or [])
    ways = [(splits, config.data.train.strategy), (model.splits, model.strategy)]
    if splits and model.splits and ways[0] != ways[1]:
        got, other = (f"{number} splits, strategy {strategy}" for number, strategy in ways)
        yield ("data", "train", "splits"), got, f"was trained on {other}"


def _layers(
    planned: Architecture, found: Architecture, has_output: bool
) -> Iterator[tuple[str, Any, Any]]:
    """What the layers around and inside the two networks are, by the keys of ``network``."""
    outer, other = (_outer(architecture) for architecture in (planned, found))
    yield "stem", outer.stem, other.stem
    if has_output:
        yield "features", outer.features, other.features
        yield "head", outer.head, other.head
    usual = HiddenLayers(CONVOLUTION, "ReLU", None)
    for key, layer in vars(planned.hidden or usual).items():
        yield key, layer, getattr(found.hidden or usual, key)


def _outer(architecture: Architecture) -> OuterLayers:
    if architecture.outer is not None:
        return architecture.outer
    return OuterLayers([], architecture.c_in, architecture.c_out, [], 1)


def _dilations(architecture: Architecture) -> list[int]:
    """The dilation of each hidden layer."""
    given = architecture.dilations
    return [given[layer % len(given)] for layer in range(architecture.depth)]


def _stream_text(axis: int | None) -> str:
    return "works on images" if axis is None else f"works on image sequences along axis {axis}"


def _output_text(model: Model) -> str:
    if model.task == "segmentation":
        return f"segmentation, {len(model.labels)} labels"
    return f"regression, {model.architecture.c_out} output channels"


def _figures(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
