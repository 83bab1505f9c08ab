"""Reading the documents: blocks of code, links, headings."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.docs.sections import README, ROOT

PAGES = sorted(
    [README, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]
)

_fence = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_any_fence = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_link = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_code = re.compile(r"`([^`\n]+)`")
_folders = {folder.name for folder in ROOT.iterdir() if folder.is_dir() and folder.name != "build"}
_heading = re.compile(r"^#+ (.+)$", re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    found = _fence.findall(page.read_text("utf-8"))
    return [text for name, text in found if name == language]


def links(page: Path) -> Iterator[tuple[str, str]]:
    """Targets and fragments of all links to other files, or within the page."""
    for target in _link.findall(_any_fence.sub("", page.read_text("utf-8"))):
        if "://" not in target:
            path, _, fragment = target.partition("#")
            yield path, fragment


def anchors(page: Path) -> set[str]:
    """What a fragment may name: headings in lower case, spaces as hyphens."""
    headings = _heading.findall(_any_fence.sub("", page.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


def paths(page: Path) -> Iterator[str]:
    """What stands in backticks and looks like a path from the top of the tree."""
    for text in _code.findall(_any_fence.sub("", page.read_text("utf-8"))):
        first, slash, _ = text.partition("/")
        if slash and first in _folders and " " not in text:
            yield text
