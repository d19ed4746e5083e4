"""HTML files that need no other: style, script and pictures are inside."""

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from msdtool.atomic import atomic_path, check_kind
from msdtool.file_errors import cannot_write
from msdtool.runs.versions import versions

HTML_START = b"<!DOCTYPE html>\n<!-- written by msdtool -->\n"
"""What a page of ours begins with; others are not replaced."""
FOLDER = Path(__file__).parent


def save_html(path: Path, template: str, **values: Any) -> None:
    """Write a page, atomically.

    Browsers run no script in it but ours, of which they are told the hash: texts of files are
    escaped, and what would be missed could not run.

    Args:
        path: the HTML file, which must be missing, empty, or a page written before.
        template: a file beside this module.
        values: what the template uses, "title" among them; the filter "address" makes of the
            content of a PNG the address of a picture.

    Raises:
        ConfigError: something else has the name.
        Error: the page cannot be written.
    """
    templates = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["address"] = _address
    script = (FOLDER / "compare.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = templates.get_template(template).render(
        script=Markup(script),  # our own file
        script_hash=f"sha256-{digest}",
        version=versions()["msdtool"],
        **values,
    )
    with cannot_write(path):
        check_kind(path, HTML_START)
    with cannot_write(path), atomic_path(path) as temporary:
        # Names of files may not be Unicode.
        temporary.write_bytes(HTML_START + text.encode("utf-8", "backslashreplace"))


def _address(content: bytes) -> str:
    """A PNG as the address of a picture."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
