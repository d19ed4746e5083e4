"""What the documentation consists of: pages, their code blocks and links."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TUTORIALS = "docs/tutorials/"
"""The pages there make their own data; commands and scripts depend on each other."""

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
MARK = re.compile(r"<!-- not run: (\S.*?) -->\n\Z")


class Block(NamedTuple):
    """A fenced code block.

    Attributes:
        page: where it is, relative to the root.
        line: of its fence, from 1.
        language: its info string.
        text: what is inside the fence.
        excuse: why it cannot be run, from the comment on the line before; "" if it can.
    """

    page: str
    line: int
    language: str
    text: str
    excuse: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks() -> Iterator[Block]:
    """All code blocks of all pages."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for fence in FENCE.finditer(text):
            before = text[: fence.start()]
            mark = MARK.search(before)
            yield Block(
                str(page.relative_to(ROOT)),
                before.count("\n") + 1,
                fence[1],
                fence[2],
                mark[1] if mark else "",
            )


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """The targets of a page's links and images."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
