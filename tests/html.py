"""HTML files of ours, read as a browser would."""

import base64
import hashlib
import io
from html.parser import HTMLParser
from pathlib import Path

from PIL import Image

VOID = {"meta", "img", "link", "br", "hr", "input"}
EXTERNAL = {"link", "iframe", "object", "embed", "base", "form", "audio", "video"}


class Page(HTMLParser):
    """Checks that elements nest and nothing is loaded; collects them, their text and pictures."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = self.words = ""
        self.scripts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []
        assert not EXTERNAL & {tag for tag, _ in self.elements}

    def handle_starttag(self, tag, attrs):
        self.words += " "
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["script"]:
            self.scripts.append(data)
        elif self.open[-1:] != ["style"]:
            self.text += data
            self.words += data

    @property
    def said(self) -> str:
        """The text, with one space between words and between elements."""
        return " ".join(self.words.split())

    @property
    def pictures(self) -> list[Image.Image]:
        start = "data:image/png;base64,"
        sources = [attrs["src"] for tag, attrs in self.elements if tag == "img"]
        assert all(source.startswith(start) for source in sources)
        contents = [base64.b64decode(source.removeprefix(start)) for source in sources]
        return [Image.open(io.BytesIO(content)).convert("RGB") for content in contents]

    def check_policy(self) -> None:
        """Check that browsers are told to load nothing, and to run one script, which is there."""
        (policy,) = (
            attrs["content"]
            for tag, attrs in self.elements
            if (tag, attrs.get("http-equiv")) == ("meta", "Content-Security-Policy")
        )
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        (script,) = self.scripts
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert rules == {
            "default-src": "'none'",
            "img-src": "data:",
            "style-src": "'unsafe-inline'",
            "script-src": f"'sha256-{digest}'",
        }
        assert not any(name.startswith("on") for _, attrs in self.elements for name in attrs)
