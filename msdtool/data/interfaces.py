"""What samples are, and what the classes on the way to them require of each other.

A `Stack` holds images, `Pairs` hold inputs with their targets. Both read a window of an image
without the rest of it where the file format allows this.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from msdtool.data.patches import Window
from msdtool.data.stacks import ImageStack


class Sample(NamedTuple):
    """One image, or a batch of images with a leading axis B.

    Attributes:
        input: [C, *space] float32.
        target: [C, *space] float32, or [1, *space] int64 class indices.
        mask: [1, *space] bool, True where the target counts; None: everywhere.
        indices: which images of the data set these are, [] or [B] int64.
        levels: by which the input is scaled where each image has its own, [2, C]: what is
            subtracted, and what is divided by then; None: all images are scaled alike.
        target_levels: the same of the target.
    """

    input: Tensor
    target: Tensor
    mask: Tensor | None
    indices: Tensor
    levels: Tensor | None = None
    target_levels: Tensor | None = None


class Stack(Protocol):
    """Images, read one at a time."""

    def __len__(self) -> int:
        """Number of images."""

    def space(self, index: int) -> tuple[int, ...]:
        """The size of image ``index`` in pixels, per spatial axis."""

    def name(self, index: int) -> str:
        """Where image ``index`` is, for messages."""

    def volume(self, index: int) -> range:
        """The images that are slices of the same volume as image ``index``, itself included."""

    def surroundings(self, index: int) -> Sequence[int]:
        """All slices of the volume of image ``index`` in order, listed in the stack or not.

        `read` and `name` take the numbers of all of them.
        """

    def read(self, index: int, window: Window | None = None) -> Tensor:
        """Return image ``index`` or a window of it, [C, *space], float32 or class indices."""


class PairReader(Protocol):
    """Inputs with their targets, read one at a time.

    Attributes:
        slab: number of slices that each input has above, and below, its central one.
    """

    slab: int

    @property
    def scale(self) -> int:
        """Size of the targets relative to the inputs, along each spatial axis."""

    def __len__(self) -> int:
        """Number of pairs."""

    def sample(
        self, index: int, window: Window | None = None, *, central_only: bool = False
    ) -> Sample:
        """Read pair ``index``, or a window of it.

        Args:
            index: of the pair; `Sample.indices` repeats it.
            window: in the input's coordinates.
            central_only: of a slab, read only the central slice.

        Raises:
            InputError: a file cannot be read, or the images of the pair differ in size.
        """

    def name(self, index: int) -> str:
        """Where the input of pair ``index`` is."""

    def target_name(self, index: int) -> str:
        """Where the target of pair ``index`` is."""


class Pairs(PairReader, Protocol):
    """Pairs that can be divided, measured and trained on."""

    def space(self, index: int) -> tuple[int, ...]:
        """The size of the input of pair ``index`` in pixels, per spatial axis."""

    def image(self, index: int) -> int:
        """The image of the `stacks` that pair ``index`` shows."""

    def stacks(self) -> Mapping[str, ImageStack]:
        """The stacks that the pairs are made of, by kind, such as "input"."""

    def to_measure(self) -> Sequence[int]:
        """Pairs that together contain every image; the others would only repeat them."""
