"""Pairing inputs with targets: numbers of images, sizes and names must agree."""

import logging
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from msdtool.data.interfaces import PairReader, Sample, Stack
from msdtool.data.labels import IGNORED
from msdtool.data.pair_names import unpaired
from msdtool.data.patches import Window, enlarged
from msdtool.data.stacks import ImageStack
from msdtool.errors import InputError
from msdtool.wording import size_text

MAX_NAMED = 3

log = logging.getLogger(__name__)


def as_tuple(sample: Sample) -> tuple[Tensor, ...]:
    """A sample as torch's data loaders expect it: input, target, and the mask if there is one."""
    if sample.mask is None:
        return sample.input, sample.target
    return sample.input, sample.target, sample.mask


def check_independent(stacks: Mapping[str, ImageStack]) -> None:
    """Check that noisy repeats, by what they are called, are different images.

    Raises:
        InputError: two begin with the same image.
    """
    kinds: dict[str, str] = {}
    for kind, stack in stacks.items():
        name = stack.name(0)
        if name in kinds:
            raise InputError(
                f"{name}: is both {kinds[name]} and {kind}, which need noise of their own: the "
                "network would learn to keep it; name different images"
            )
        kinds[name] = kind


def warn_if_same(inputs: ImageStack, targets: ImageStack) -> None:
    """Warn if the first target is the first input, by what it is called."""
    name = inputs.name(0)
    if targets.name(0) == name:
        log.warning(
            f"{name}: is both input and target, so that the network learns to return its input; "
            "name other targets, or, to denoise images without targets, set data.train.blind_spot"
        )


def check_counts(first: ImageStack, first_kind: str, other: ImageStack, kind: str) -> None:
    """Check that two stacks have the same number of images.

    Raises:
        InputError: they have not.
    """
    if len(first) != len(other):
        raise InputError(
            f"found {len(first)} {first_kind} images ({first.paths[0]} ...) but "
            f"{len(other)} {kind} images ({other.paths[0]} ...); "
            f"each {first_kind} needs one, in the same natural order"
            f"{_unpaired_hint(first, other)}{_pages_hint(first, other)}"
        )


def first_scale(inputs: Stack, targets: Stack) -> int:
    """Size of the first target relative to its input; 1 if the ratio is not an integer."""
    try:
        input, target = inputs.space(0), targets.space(0)
    except InputError:
        return 1  # reading that pair reports the error; the others can still be read
    scale = max(1, target[0] // max(1, input[0]))
    return scale if target == tuple(scale * size for size in input) else 1


def read_pair(
    inputs: Stack,
    targets: Stack,
    masks: Stack | None,
    index: int,
    window: Window | None,
    scale: int = 1,
) -> Sample:
    """Read the images of a pair, and restrict the target to the pixels that count.

    Args:
        inputs: the stack of inputs.
        targets: the stack of targets.
        masks: the stack of masks, of the target's size.
        index: of the pair.
        window: in the input's coordinates; None: all of it.
        scale: size of the target relative to the input.

    Raises:
        InputError: one cannot be read, or they differ in size.
    """
    input = inputs.read(index, window)
    others: list[Tensor] = []
    for kind, stack in (("target", targets), ("mask", masks)):
        if stack is None:
            continue
        if window is not None:
            # Within a window, a difference in size would go unnoticed.
            check_sizes(inputs, inputs.space(index), stack, stack.space(index), kind, index, scale)
        others.append(stack.read(index, None if window is None else enlarged(window, scale)))
        check_sizes(inputs, input.shape[1:], stack, others[-1].shape[1:], kind, index, scale)
    target, *mask = others
    sample = Sample(input, target, None, torch.tensor(index))
    return masked(sample, mask[0] != 0) if mask else sample


def check_sizes(
    inputs: Stack,
    size: Sequence[int],
    stack: Stack,
    other: Sequence[int],
    kind: str,
    index: int,
    scale: int = 1,
) -> None:
    """Check that image ``index`` of ``stack`` is ``scale`` times as large as that of ``inputs``.

    Raises:
        InputError: it is not.
    """
    if tuple(scale * length for length in size) != tuple(other):
        need = "both need the same size"
        if scale > 1:
            need = f"in the first pair it is {scale} times as large, as it must be in all pairs"
        raise InputError(
            f"{inputs.name(index)} is {size_text(size)} pixels, its {kind} "
            f"{stack.name(index)} is {size_text(other)}; {need}"
        )


def masked(sample: Sample, mask: Tensor) -> Sample:
    """Restrict the pixels that count to those of ``mask`` [1, *space]."""
    if not sample.target.is_floating_point():
        return sample._replace(target=torch.where(mask, sample.target, IGNORED))
    # Values of pixels that do not count, possibly NaN, must not propagate.
    target = torch.where(mask, sample.target, 0.0)
    both = mask if sample.mask is None else mask & sample.mask
    return sample._replace(target=target, mask=both)


def finite_sample(
    pairs: PairReader, index: int, window: Window | None = None, *, central_only: bool = False
) -> Sample:
    """Read pair ``index`` or a window of it; see `Pairs.sample`.

    Raises:
        InputError: a file cannot be used, or has non-finite values in pixels that count.
    """
    sample = pairs.sample(index, window, central_only=central_only)
    slab = 0 if central_only else pairs.slab
    check_finite(sample.input, pairs.name(index), "replace them", slab)
    check_finite(
        sample.target, pairs.target_name(index), "replace them, or exclude them with a mask"
    )
    return sample


def check_finite(image: Tensor, name: str, remedy: str, slab: int = 0) -> None:
    """Check that all values of an image, or of a slab of this reach, are finite.

    Raises:
        InputError: they are not.
    """
    bad = num_not_finite(image)
    if bad:
        around = f" with the {slab} slices above and below" if slab else ""
        raise InputError(f"{not_finite_text(name + around, bad, image.numel())}; {remedy}")


def num_not_finite(image: Tensor) -> int:
    """Number of values that are NaN or infinite."""
    return int(image.numel() - image.isfinite().sum())


def not_finite_text(name: str, bad: int, total: int) -> str:
    """Say that ``bad`` of the ``total`` values of an image are not finite."""
    return f"{name}: {bad} of {total} values are NaN or infinite"


def _unpaired_hint(first: ImageStack, other: ImageStack) -> str:
    """The files that have no partner by their names, if the names tell."""
    files = unpaired(first.paths, other.paths)
    if not files:
        return ""
    more = f" ... ({len(files)} files)" if len(files) > MAX_NAMED else ""
    return f"; without a partner: {', '.join(map(str, files[:MAX_NAMED]))}{more}"


def _pages_hint(*stacks: ImageStack) -> str:
    """What may be wrong with the number of images if files contain several."""
    if not any(stack.has_volumes for stack in stacks):
        return ""
    return ". The pages of a file count as images; if they are channels, set axes: CYX"
