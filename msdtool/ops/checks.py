"""Argument checks shared by the public operations; every message names the value found."""

from collections.abc import Iterable, Sequence

from torch import Tensor

from msdtool.border import PADDINGS, largest_dilation

RENAMED = {"blocked": "torch", "taps": "torch", "cuda-fused": "cuda"}  # values of impl


def check_impl(impl: str, allowed: Iterable[str]) -> None:
    """Raise ValueError unless ``impl`` is one of the allowed names."""
    allowed = tuple(allowed)
    if impl in allowed:
        return
    if RENAMED.get(impl) in allowed:
        raise ValueError(f"impl is {impl!r}, which is now called {RENAMED[impl]!r}")
    raise ValueError(f"impl is {impl!r}; allowed: {', '.join(allowed)}")


def check_block(
    input_shape: Sequence[int],
    weights: Sequence[Tensor],
    bias: Tensor,
    dilations: Sequence[int],
    padding: str,
) -> None:
    """Raise ValueError unless input [B, c_in, *space] and layers form a valid block."""
    if padding not in PADDINGS:
        raise ValueError(f"padding is {padding!r}; allowed: {', '.join(PADDINGS)}")
    ndim = len(input_shape) - 2
    if ndim not in (2, 3):
        raise ValueError(f"input has shape {tuple(input_shape)}; expected [B, C, (D,) H, W]")
    if len(weights) == 0 or len(dilations) == 0:
        raise ValueError(
            f"got {len(weights)} weights and {len(dilations)} dilations; expected at least one"
        )
    width = weights[0].shape[0]
    if width < 1:
        raise ValueError(
            f"weight0 has shape {tuple(weights[0].shape)}; expected a width of 1 or more"
        )
    for layer, weight in enumerate(weights):
        expected = (width, input_shape[1] + width * layer) + (3,) * ndim
        if tuple(weight.shape) != expected:
            raise ValueError(f"weight{layer} has shape {tuple(weight.shape)}; expected {expected}")
    if bias.shape != (width * len(weights),):
        raise ValueError(f"bias has shape {tuple(bias.shape)}; expected ({width * len(weights)},)")
    check_dilations(dilations[: len(weights)], tuple(input_shape[2:]), padding)


def check_network(
    depth: int, width: int, dilations: Sequence[int], ndim: int, padding: str, **channels: int
) -> None:
    """Raise ValueError if no network can have these layers, whatever the images.

    Args:
        depth, width, dilations, ndim, padding: as for `msdtool.nn.MSDModule`.
        channels: numbers of channels, by the names of the arguments.
    """
    for name, number in {"depth": depth, "width": width, **channels}.items():
        if number < 1:
            raise ValueError(f"{name} is {number}; allowed: 1 or more")
    if ndim not in (2, 3):
        raise ValueError(f"ndim is {ndim}; allowed: 2, 3")
    if padding not in PADDINGS:
        raise ValueError(f"padding is {padding!r}; allowed: {', '.join(PADDINGS)}")
    if len(dilations) == 0:
        raise ValueError("dilations is empty; expected at least one")
    for dilation in dilations:
        if int(dilation) != dilation or dilation < 1:
            raise ValueError(f"dilation {dilation} is not a positive integer")


def check_final(num_channels: int, weight: Tensor, bias: Tensor) -> None:
    """Raise ValueError for a final layer that does not fit ``num_channels``."""
    if tuple(weight.shape) != (len(bias), num_channels, 1):
        raise ValueError(
            f"final_weight has shape {tuple(weight.shape)}; expected {(len(bias), num_channels, 1)}"
        )


def check_dilations(dilations: Sequence[int], space: Sequence[int], padding: str) -> None:
    """Raise ValueError if the largest dilation reaches too far beyond the image."""
    whole_dilations(dilations)
    dilation, size = max(dilations), min(space)
    if min(dilations) < 1:
        raise ValueError(f"dilation {min(dilations)} is not positive")
    if size < 1:
        raise ValueError(f"the image has shape {tuple(space)}; expected at least one pixel")
    limit = largest_dilation(size, padding)
    if limit is not None and dilation > limit:
        raise ValueError(
            f"dilation {dilation} is too large for an image of size {size}: "
            f"{padding} padding allows at most {limit}"
        )


def whole_dilations(dilations: Sequence[int]) -> list[int]:
    """Dilations as Python's integers; raise ValueError for one that is not an integer."""
    for dilation in dilations:
        if int(dilation) != dilation:
            raise ValueError(f"dilation {dilation} is not an integer")
    return [int(dilation) for dilation in dilations]


def layer_dilations(dilations: Sequence[int], depth: int, space: Sequence[int]) -> tuple[int, ...]:
    """One dilation per layer, none larger than the image.

    A larger one would change nothing: all taps but the middle one read a border of zeros anyway.
    """
    most = max(space)
    return tuple(min(int(dilations[layer % len(dilations)]), most) for layer in range(depth))


def check_same_kind(first: Tensor, others: Iterable[Tensor], name: str = "input") -> None:
    """Raise ValueError unless all share the device and the floating-point dtype of the first.

    Args:
        first, others: the tensors.
        name: what messages call the first.
    """
    if not first.dtype.is_floating_point:
        raise ValueError(f"{name} has dtype {first.dtype}; expected floating point")
    for other in others:
        if other.dtype != first.dtype:
            raise ValueError(f"{name} has dtype {first.dtype}, a parameter has {other.dtype}")
        if other.device != first.device:
            raise ValueError(f"{name} is on {first.device}, a parameter is on {other.device}")


def address_of(tensor: Tensor) -> int:
    """The address of a tensor's first element, for code that is not torch's.

    Raises:
        ValueError: the tensor has no memory, as a fake one or one of the meta device.
    """
    try:
        address = tensor.data_ptr()
    except RuntimeError:  # torch knows that some classes of tensors have none
        address = 0
    if address == 0 and tensor.numel() > 0:
        raise ValueError(
            f"a {type(tensor).__name__} of shape {tuple(tensor.shape)} on {tensor.device} has no "
            "memory that an engine could read; give the engine plain tensors"
        )
    return address


def check_convolution(
    input: Tensor, weight: Tensor, bias: Tensor, output: Tensor, stride: int, dilation: int
) -> None:
    """Raise ValueError if the arguments of an in-place convolution do not fit together."""
    if input.dim() != 4 or 0 in input.shape[1:]:
        raise ValueError(
            f"input has shape {tuple(input.shape)}; expected [B, C_in, H, W] with non-empty images"
        )
    batch, c_in, height, width = input.shape
    c_out, kernel_size = weight.shape[0], weight.shape[-1]
    if tuple(weight.shape) != (c_out, c_in, kernel_size, kernel_size) or kernel_size % 2 == 0:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}; expected [C_out, {c_in}, k, k] with k odd"
        )
    if tuple(bias.shape) != (c_out,):
        raise ValueError(f"bias has shape {tuple(bias.shape)}; expected ({c_out},)")
    if stride < 1:
        raise ValueError(f"stride is {stride}; allowed: 1 or more")
    if dilation < 1:
        raise ValueError(f"dilation is {dilation}; allowed: 1 or more")
    size, reach = min(height, width), kernel_size // 2
    limit = largest_dilation(size, "symmetric")
    if limit is not None and dilation * reach > limit:
        raise ValueError(
            f"dilation {dilation} is too large for an image of size {size}: symmetric padding "
            f"for kernel size {kernel_size} allows at most {limit // reach}"
        )
    expected = (batch, c_out, -(-height // stride), -(-width // stride))
    if tuple(output.shape) != expected:
        raise ValueError(f"output has shape {tuple(output.shape)}; expected {expected}")
    check_memory("output", output)
    for name, tensor in (("weight", weight), ("bias", bias), ("output", output)):
        if (tensor.dtype, tensor.device) != (input.dtype, input.device):
            raise ValueError(
                f"{name} is {tensor.dtype} on {tensor.device}; "
                f"expected {input.dtype} on {input.device}, like the input"
            )
    _check_apart(input, output)


def check_memory(name: str, tensor: Tensor) -> None:
    """Raise ValueError for a tensor that has a history, which overwriting it would falsify.

    A leaf has none, even if it requires a gradient, and neither has a slice of one.
    """
    base = tensor if tensor._base is None else tensor._base
    if tensor.requires_grad and not base.is_leaf:
        raise ValueError(
            f"{name} is part of a graph, the result of {tensor.grad_fn}; it is overwritten, so it "
            f"must be memory without a history, such as {name}.detach()"
        )


def _check_apart(input: Tensor, output: Tensor) -> None:
    """Raise ValueError if the two are slices of one buffer that share channels."""
    if not overlap(input, output):
        return
    where = "its elements are among those of the input"
    offset = int(output.storage_offset()) - int(input.storage_offset())
    first, rest = divmod(offset, output.stride(1))
    if input.stride() == output.stride() and rest == 0:
        where = (
            f"it starts {first} channels after the input, which has {input.shape[1]}; give it "
            "channels of its own"
        )
    raise ValueError(f"output overlaps input: {where}")


def overlap(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors of one dtype share an element; exact for any strides.

    Slices of channels of one buffer interleave in memory without sharing anything, so a comparison
    of their extents would not do.
    """
    if first.untyped_storage().data_ptr() != second.untyped_storage().data_ptr():
        return False
    if 0 in first.shape or 0 in second.shape:
        return False
    # They share an element if sum(stride * step) = offset for a step within each axis' limits.
    limits: dict[int, tuple[int, int]] = {}
    for tensor, sign in ((first, 1), (second, -1)):
        for stride, size in zip(tensor.stride(), tensor.shape, strict=True):
            low, high = limits.get(stride, (0, 0))
            reach = sign * (size - 1)
            limits[stride] = low + min(reach, 0), high + max(reach, 0)
    limits.pop(0, None)
    offset = int(second.storage_offset()) - int(first.storage_offset())
    return _reachable(offset, sorted(limits.items(), reverse=True))


def _reachable(offset: int, axes: list[tuple[int, tuple[int, int]]]) -> bool:
    """Whether steps along the axes, the longest strides first, can add up to ``offset``."""
    if not axes:
        return offset == 0
    (stride, (low, high)), *inner = axes
    least = sum(size * limits[0] for size, limits in inner)
    most = sum(size * limits[1] for size, limits in inner)
    first, last = -((most - offset) // stride), (offset - least) // stride
    return any(
        _reachable(offset - stride * step, inner)
        for step in range(max(low, first), min(high, last) + 1)
    )
