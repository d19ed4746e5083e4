"""What a check of an experiment's data finds."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from msdtool.wording import size_text

COUNTS = re.compile(r"\(\d+ pixels\)|\b\d+ of \d+ values")
"""What differs in findings that are equal otherwise."""


@dataclass
class StackFacts:
    """Properties of the images of a stack.

    Attributes:
        count: number of images.
        shapes: number of images by shape [C, *space].
        dtypes: number of images by dtype.
        minimum, maximum: of all finite values.
        mean: of all finite values.
        notes: what files say about their pixels that is not applied, each once.
    """

    count: int
    shapes: dict[tuple[int, ...], int] = field(default_factory=dict)
    dtypes: dict[str, int] = field(default_factory=dict)
    minimum: float = float("inf")
    maximum: float = float("-inf")
    mean: float = 0.0
    notes: list[str] = field(default_factory=list)


@dataclass
class Report:
    """The result of a check.

    Attributes:
        pairs: the first pairs of each data set, by the data set's name.
        stacks: facts by data set and kind of stack, such as ("train", "input").
        label_counts: pixels by label value in the training targets.
        input_channels: of the network, with the neighbours of a slab.
        output_channels: of the network.
        slices: of a slab; 1 without neighbours.
        normalisation: how images would be scaled.
        memory_bytes: estimate for a training step on the largest image or the crop.
        problems: reasons why training would fail.
        warnings: what looks wrong but does not stop training.
    """

    pairs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    stacks: dict[tuple[str, str], StackFacts] = field(default_factory=dict)
    label_counts: dict[int, int] = field(default_factory=dict)
    input_channels: int = 0
    output_channels: int = 0
    slices: int = 1
    normalisation: str = ""
    memory_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data; names are "train input", shapes "1 x 512 x 512"."""
        stacks = {}
        for name, facts in self.stacks.items():
            shapes = {size_text(shape): count for shape, count in facts.shapes.items()}
            stacks[" ".join(name)] = {**asdict(facts), "shapes": shapes}
        return {**asdict(self), "stacks": stacks}

    def shapes(self, *roles: str) -> list[tuple[int, ...]]:
        """The distinct shapes of the images of all stacks in these roles, such as "input"."""
        found = [facts.shapes for (_, kind), facts in self.stacks.items() if _role(kind) in roles]
        return list(dict.fromkeys(shape for shapes in found for shape in shapes))


class Finding(NamedTuple):
    """A message, and the names of the files that it may mention."""

    message: str
    names: tuple[str, ...]

    @property
    def kind(self) -> str:
        """What equal findings about other files have in common."""
        text = self.message
        for name in sorted(self.names, key=len, reverse=True):
            text = text.replace(name, "*")
        return COUNTS.sub("#", text)


def summed_up(findings: Sequence[Finding], total: int, what: str) -> list[str]:
    """Return the messages, those that differ only in the file as one, "9 of 14 ...".

    Args:
        findings: in any order.
        total: number of files that were looked at.
        what: these are, such as "train pairs".
    """
    kinds: dict[str, list[str]] = {}
    for finding in findings:
        kinds.setdefault(finding.kind, []).append(finding.message)
    return [
        messages[0]
        if len(messages) == 1
        else f"{len(messages)} of {total} {what}, such as {messages[0]}"
        for messages in kinds.values()
    ]


def _role(kind: str) -> str:
    """What a stack of this kind holds; "split 2" is one of several splits."""
    return kind.split(maxsplit=1)[0]
