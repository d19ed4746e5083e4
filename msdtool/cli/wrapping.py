"""Text that fits a terminal: lines break at words, tables between columns."""

import re
import textwrap
from collections.abc import Iterator, Sequence

GAP = "  "
LONGEST_ITEM = 60
"""Characters; a line of such items, as "loss 0.5, psnr 30.1", breaks between them only."""
GLUE = "\N{NO-BREAK SPACE}"
COLUMNS = re.compile(r"\s*(?:\S+(?: \S+)* {2,})+")
"""The start of a line whose last cell, or value, stands in a column of its own."""


def wrapped(line: str, width: int) -> str:
    """Break a line that is too long at spaces; names of files stay whole, to be copied.

    A list of names with values breaks at its commas.

    What follows is indented: to the line's last column, if that begins in the left half, by two
    spaces otherwise.
    """
    if len(line) <= width:
        return line
    before = COLUMNS.match(line)
    indent = len(line) - len(line.lstrip()) + 2
    if before is not None and before.end() <= width // 2:
        indent = before.end()
    items = line.split(", ")
    if max(map(len, items)) <= min(LONGEST_ITEM, width - indent):
        line = ", ".join(item.replace(" ", GLUE) for item in items)
    text = textwrap.fill(
        line,
        width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return text.replace(GLUE, " ")


def columns(lines: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Lines of cells, of which each column is as wide as its widest cell.

    Columns that do not fit in the width follow below, beside the first one again.
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n\n".join(
        "\n".join(
            GAP.join(line[index].ljust(widths[index]) for index in group).rstrip() for line in lines
        )
        for group in _groups(widths, width)
    )


def _groups(widths: Sequence[int], width: int | None) -> Iterator[list[int]]:
    """Yield the columns that stand beside each other."""
    group, used = [0], widths[0]
    for index in range(1, len(widths)):
        needed = len(GAP) + widths[index]
        if width is not None and len(group) > 1 and used + needed > width:
            yield group
            group, used = [0], widths[0]
        group.append(index)
        used += needed
    yield group
