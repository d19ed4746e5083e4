"""The architecture of a network as plain data: derived from a config, stored in checkpoints."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from msdtool.border import PADDINGS
from msdtool.plain_data import read, shown

MAX_WEIGHTS = 10**9
"""With the optimizer's state these take 16 GB."""


@dataclass(frozen=True)
class Stream:
    """How a network works on image sequences.

    Attributes:
        axis: which of the three spatial axes of a sequence is time.
        dt: frames per chunk in prediction, `stream.frames_per_chunk` of the config.
    """

    axis: int
    dt: int

    def frames_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape [B*T, C, *space] of the frames of sequences of shape [B, C, *axes]."""
        batch, channels, *space = shape
        frames = space.pop(self.axis)
        return (batch * frames, channels, *space)


@dataclass(frozen=True)
class OuterLayers:
    """The layers before and after an MSD network.

    Attributes:
        stem: layers before it, with all arguments, as `plan_chain` of
            `msdtool.nn.yaml_layers.chain` returns them.
        c_stem: channels after the stem.
        features: channels before the head.
        head: layers after it.
        scale: the output's sides are this many times as long as the input's.
    """

    stem: list[Any]
    c_stem: int
    features: int
    head: list[Any]
    scale: int


@dataclass(frozen=True)
class HiddenLayers:
    """What the hidden layers compute if it is not a convolution and ReLU.

    Attributes:
        operation: "conv", or a layer with all arguments.
        activation: a layer with all arguments.
        norm: the same; None: no normalisation.
    """

    operation: Any
    activation: Any
    norm: Any


@dataclass(frozen=True)
class Architecture:
    """Everything that the shapes of a network's weights depend on.

    Attributes:
        c_in: channels of the input.
        c_out: channels of the output.
        depth: hidden layers.
        width: channels per hidden layer.
        dilations: one per hidden layer, repeated from the start if there are fewer.
        ndim: spatial axes of the input, 2 or 3.
        padding: "symmetric", "reflect" or "zeros".
        stream: of a network that works on image sequences; None: it works on images or volumes.
        outer: the layers before and after; None: there are none.
        hidden: what the hidden layers are; None: convolution and ReLU, an `MSDModule`.
    """

    c_in: int
    c_out: int
    depth: int
    width: int
    dilations: tuple[int, ...]
    ndim: int
    padding: str = "symmetric"
    stream: Stream | None = None
    outer: OuterLayers | None = None
    hidden: HiddenLayers | None = None

    @property
    def scale(self) -> int:
        """The output's sides are this many times as long as the input's."""
        return 1 if self.outer is None else self.outer.scale

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; what the network does not have is left out."""
        content = asdict(self)
        stream, outer, hidden = (content.pop(key) for key in ("stream", "outer", "hidden"))
        content["dilations"] = list(self.dilations)
        if stream is not None:
            content["stream"] = stream
        return content | (outer or {}) | (hidden or {})

    @classmethod
    def from_dict(cls, content: Any, name: str = "architecture") -> "Architecture":
        """Make an architecture of what `to_dict` returned.

        Args:
            content: keys and values.
            name: where they are, for error messages.

        Raises:
            ValueError: a key is missing or unknown, or its value cannot be; names the key.
        """
        if not isinstance(content, dict):
            raise ValueError(f"{name} is {shown(content)}; expected keys and values")
        groups = {"stream", "outer", "hidden"}
        own = {key: value for key, value in content.items() if key not in groups}
        found = read(cls, own, name)
        if "stream" in content:
            found = replace(found, stream=read(Stream, content["stream"], f"{name}.stream"))
        if not content.keys().isdisjoint(_names(OuterLayers)):
            found = replace(found, outer=read(OuterLayers, content, name))
        if not content.keys().isdisjoint(_names(HiddenLayers)):
            found = replace(found, hidden=read(HiddenLayers, content, name))
        unknown = content.keys() - found.to_dict().keys()
        if unknown:
            raise ValueError(f"{name}.{min(map(str, unknown))} is unknown; update msdtool")
        found.check(name)
        return found

    def check(self, name: str = "architecture") -> None:
        """Check each number on its own; whether weights fit is checked where they are loaded.

        Args:
            name: where it is, for error messages.

        Raises:
            ValueError: a number cannot be; names the key.
        """
        sizes = {key: getattr(self, key) for key in ("c_in", "c_out", "depth", "width")}
        if self.stream is not None:
            sizes["stream.dt"] = self.stream.dt
        if self.outer is not None:
            sizes |= {key: getattr(self.outer, key) for key in ("c_stem", "features", "scale")}
        for key, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name}.{key} is {size}; expected 1 or more")
        if self.ndim not in (2, 3):
            raise ValueError(f"{name}.ndim is {self.ndim}; expected 2 or 3")
        if not self.dilations or min(self.dilations) < 1:
            raise ValueError(
                f"{name}.dilations is {shown(list(self.dilations))}; expected 1 or more each"
            )
        if self.padding not in PADDINGS:
            raise ValueError(
                f"{name}.padding is {shown(self.padding)}; expected {', '.join(PADDINGS)}"
            )
        if self.stream is not None and self.stream.axis not in (0, 1, 2):
            raise ValueError(f"{name}.stream.axis is {self.stream.axis}; expected 0, 1 or 2")
        if self.stream is not None and self.ndim != 3:
            raise ValueError(f"{name}.ndim is {self.ndim}; a network of image sequences has 3")


def _names(kind: type[Any]) -> list[str]:
    return [field.name for field in fields(kind)]
