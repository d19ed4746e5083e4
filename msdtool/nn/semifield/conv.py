"""Modules that convolve an image with a kernel over a semifield."""

from collections.abc import Callable

from torch import Tensor, nn

from msdtool.ops.semifield import Convolution
from msdtool.ops.semifield.geometry import Kind, Padding, PerAxis

Compute = Callable[..., Tensor]


class SemifieldConv(nn.Module):
    """A convolution over a semifield for `GenericConv`; it has no parameters.

    Args:
        compute: called as ``compute(img, kernel, convolution=Convolution(...))``.
        name: shown in ``repr``.
    """

    def __init__(self, compute: Compute, name: str) -> None:
        super().__init__()
        self.compute = compute
        self.name = name

    def forward(
        self,
        img: Tensor,
        kernel: Tensor,
        stride: PerAxis = 1,
        padding: Padding = 0,
        dilation: PerAxis = 1,
        groups: int = 1,
        group_broadcasting: bool = False,
        kind: Kind = "conv",
    ) -> Tensor:
        """Convolve an image [B, C, *space] with a kernel [O, C/groups, *K].

        Args: as for `GenericConv`.

        Returns:
            [B, O, *space'], O times ``groups`` with group broadcasting.

        Raises:
            ValueError: a shape, a dtype or an argument does not fit.
        """
        convolution = Convolution(stride, padding, dilation, groups, group_broadcasting, kind)
        return self._convolve(img, kernel, convolution)

    def extra_repr(self) -> str:
        """Name the semifield."""
        return self.name

    def _convolve(self, img: Tensor, kernel: Tensor, convolution: Convolution) -> Tensor:
        return self.compute(img, kernel, convolution=convolution)


class FixedSemifieldConv(SemifieldConv):
    """A convolution whose first call fixes all sizes, except the batch, and arguments."""

    def __init__(self, compute: Compute, name: str) -> None:
        super().__init__(compute, name)
        self.first: tuple[object, ...] | None = None

    def _convolve(self, img: Tensor, kernel: Tensor, convolution: Convolution) -> Tensor:
        call = tuple(img.shape[1:]), tuple(kernel.shape), convolution
        if self.first is not None and call != self.first:
            names = ("image of shape (B, *)", "kernel of shape", "arguments")
            changes = [
                f"{name} {old} before, {new} now"
                for name, old, new in zip(names, self.first, call, strict=True)
                if old != new
            ]
            raise ValueError(
                f"Failed to match arguments! {'; '.join(changes)}. A convolution made by "
                "lazy_fixed() keeps the sizes of its first call; use dynamic() if they change"
            )
        output = super()._convolve(img, kernel, convolution)
        self.first = call
        return output
