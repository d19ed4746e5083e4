"""What MkDocs does to a page before it renders it."""

import re
from typing import Any

ELSEWHERE = re.compile(r"(?<!!)\[([^\]]+)\]\((?:\.\./[^)]*|[^)]*\.py)\)")
"""A link to a file that is not part of the site, such as a source file."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Reduce links that would lead out of the site to their text."""
    return ELSEWHERE.sub(r"\1", markdown)
