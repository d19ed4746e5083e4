"""What INPUT arguments name."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msdtool.errors import ConfigError

if TYPE_CHECKING:
    from msdtool.data.specifiers import Specifier


def from_stdin(inputs: Sequence[str]) -> list[str]:
    """Replace each "-" with the lines of stdin."""
    paths = []
    for item in inputs:
        if item == "-":
            paths += [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
        else:
            paths.append(item)
    return paths


def one_per_split(names: Sequence[str], splits: int) -> "list[Specifier]":
    """Return the files of each split; a single name, such as a pattern, may be of a file for each.

    Args:
        names: of the splits.
        splits: how many the network was trained on; 0: none.

    Raises:
        ConfigError: a single name is of more files, or of fewer.
        InputError: a name is of no file.
    """
    from msdtool.data.build import locate

    if len(names) > 1:
        return [locate([name]) for name in names]
    if not splits:
        raise ConfigError("--splits: the network was not trained on splits; leave it out")
    files = locate(names)
    if len(files) != splits:
        raise ConfigError(
            f"--splits: the network was trained on {splits} splits, and {names[0]} is of "
            f"{len(files)} file{'s' * (len(files) > 1)}; give an INPUT for each split"
        )
    return [[file] for file in files]
