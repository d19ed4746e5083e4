"""The MSD block: checks its arguments and picks who computes it."""

from collections.abc import Sequence

from torch import Tensor

from msdtool.ops import function, reference

PADDINGS = ("symmetric", "reflect", "zeros")
IMPLEMENTATIONS = {"auto": function, "blocked": function, "reference": reference}


def msd_block(
    input: Tensor,
    weights: Sequence[Tensor],
    bias: Tensor,
    dilations: Sequence[int],
    padding: str = "symmetric",
    impl: str = "auto",
) -> Tensor:
    """Run the hidden layers of an MSD network.

    Layer i reads the c_in + width*i channels in front of it and adds ``width`` channels.

    Args:
        input: [B, c_in, *space], two or three spatial axes, floating point.
        weights: per layer [width, c_in + width*i, 3, 3(, 3)].
        bias: [depth*width].
        dilations: one per layer, repeated from the start when there are fewer.
        padding: border rule, "symmetric", "reflect" or "zeros".
        impl: "auto" takes the fastest for the device; "reference" is plain torch.

    Returns:
        [B, c_in + width*depth, *space], the input channels first.

    Raises:
        ValueError: a shape, a dilation or a name does not fit.
    """
    check_block(input, weights, bias, dilations, padding, impl)
    return IMPLEMENTATIONS[impl].msd_block(input, weights, bias, dilations, padding)


def msd_module(
    input: Tensor,
    weights: Sequence[Tensor],
    bias: Tensor,
    final_weight: Tensor,
    final_bias: Tensor,
    dilations: Sequence[int],
    padding: str = "symmetric",
    impl: str = "auto",
) -> Tensor:
    """Run an MSD block and the final 1x1 layer over all its channels.

    Args:
        final_weight: [c_out, c_in + width*depth, 1].
        final_bias: [c_out].
        The others: as for `msd_block`.

    Returns:
        [B, c_out, *space].

    Raises:
        ValueError: a shape, a dilation or a name does not fit.
    """
    check_block(input, weights, bias, dilations, padding, impl)
    return IMPLEMENTATIONS[impl].msd_module(
        input, weights, bias, final_weight, final_bias, dilations, padding
    )


def check_block(
    input: Tensor,
    weights: Sequence[Tensor],
    bias: Tensor,
    dilations: Sequence[int],
    padding: str,
    impl: str,
) -> None:
    """Raise ValueError for arguments that no implementation can compute."""
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"impl is {impl!r}; allowed: {', '.join(IMPLEMENTATIONS)}")
    if padding not in PADDINGS:
        raise ValueError(f"padding is {padding!r}; allowed: {', '.join(PADDINGS)}")
    ndim = input.dim() - 2
    if ndim not in (2, 3):
        raise ValueError(f"input has shape {tuple(input.shape)}; expected [B, C, (D,) H, W]")
    width = weights[0].shape[0]
    for layer, weight in enumerate(weights):
        expected = (width, input.shape[1] + width * layer) + (3,) * ndim
        if tuple(weight.shape) != expected:
            raise ValueError(f"weight{layer} has shape {tuple(weight.shape)}; expected {expected}")
    if bias.shape != (width * len(weights),):
        raise ValueError(f"bias has shape {tuple(bias.shape)}; expected ({width * len(weights)},)")
    check_dilations(dilations[: len(weights)], tuple(input.shape[2:]), padding)


def check_dilations(dilations: Sequence[int], space: Sequence[int], padding: str) -> None:
    """Raise ValueError if a border of the widest dilation cannot be taken from the image."""
    dilation, size = max(dilations), min(space)
    limit = {"symmetric": size, "reflect": size - 1, "zeros": None}[padding]
    if limit is not None and dilation > limit:
        raise ValueError(
            f"dilation {dilation} is too large for an image of size {size}: "
            f"{padding} padding allows at most {limit}"
        )
