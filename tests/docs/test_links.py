"""Every link of the documentation leads somewhere."""

import re
from pathlib import Path

import pytest

from tests.docs.markdown import PAGES, ROOT, anchors, links, prose

LINKING = [*PAGES, ROOT / "CHANGELOG.md", *sorted((ROOT / "kernels").rglob("*.md"))]
ROOMS = "msdtool|tests|kernels|configs|docs"
KINDS = "md|py|h|cuh|cu|cpp|toml|yaml|cff|svg|png"


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", LINKING, ids=name)
def test_links_lead_to_files_and_headings(page):
    for link in links(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", LINKING, ids=name)
def test_files_that_are_named_exist(page):
    named = re.findall(
        rf"`((?:msdtool|tests|kernels|configs|docs)/[\w/.]+\.(?:{KINDS}))`", prose(page)
    )
    missing = [path for path in named if not (ROOT / path).exists()]
    assert not missing


def test_every_page_can_be_reached_from_the_readme():
    reached, found = set(), {ROOT / "README.md"}
    while found:
        page = found.pop()
        reached.add(page)
        targets = {(page.parent / link.partition("#")[0]).resolve() for link in links(page)}
        found |= {target for target in targets if target.suffix == ".md"} - reached
    assert set(PAGES) <= reached
