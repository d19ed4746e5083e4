"""Whether the names of paired files agree."""

import re
from pathlib import Path

from msdtool.data.datasets import ImageDataset


def disagreeing_pairs(dataset: ImageDataset) -> list[tuple[Path, Path]]:
    """Return the pairs whose file names end in different numbers, such as scan_003 and slice_004.

    Pairing goes by order, so a missing file shifts all pairs after it; this shows it.
    """
    return [
        (input, target)
        for input, target in zip(dataset.inputs.paths, dataset.targets.paths, strict=True)
        if input.stem != target.stem
        and None not in (numbers := (_last_number(input), _last_number(target)))
        and numbers[0] != numbers[1]
    ]


def _last_number(path: Path) -> int | None:
    found = re.findall(r"\d+", path.stem)
    return int(found[-1]) if found else None
