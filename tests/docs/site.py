"""The pages as a site with search, for a browser without the web.

``python -m tests.docs.site`` (`make docs`) builds it into build/docs/site. The pages stay readable
where they are: what a site needs differently is changed in copies of them.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import PAGES
from tests.docs.sections import ROOT

DOCS = ROOT / "docs"
BUILD = ROOT / "build" / "docs"

_diagram = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_fence = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
_link = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s:#]+)(#[^)\s]*)?\)")


def place(page: Path) -> Path:
    """Where a page is in the site: README.md is the index of its folder."""
    if page.is_relative_to(DOCS):
        found = page.relative_to(DOCS)
        return found.with_name("index.md") if found.name == "README.md" else found
    return Path("index.md" if page.name == "README.md" else page.name.lower())


def linked(text: str, page: Path) -> str:
    """The text with links as the site needs them; a file that is no page becomes its path."""

    def changed(match: re.Match[str]) -> str:
        words, target, fragment = match[1], (page.parent / match[2]).resolve(), match[3] or ""
        if target in PAGES:
            path = os.path.relpath(place(target), place(page).parent)
            return f"[{words}]({path}{fragment})"
        path = f"`{target.relative_to(ROOT)}`"
        return path if words in path else f"{words} ({path})"

    parts = _fence.split(text)
    return "".join(part if _fence.match(part) else _link.sub(changed, part) for part in parts)


def drawn(text: str, page: Path) -> tuple[str, list[str]]:
    """The text with a picture for every diagram, and the diagrams' sources, in order."""
    sources = _diagram.findall(text)
    count = iter(range(1, len(sources) + 1))
    name = place(page).stem
    return _diagram.sub(lambda _: f"![Diagram]({name}-{next(count)}.svg)", text), sources


def sized(svg: str) -> str:
    """A picture of the size it was drawn in; as it comes, it fills whatever is there."""
    width, height = re.findall(r'viewBox="\S+ \S+ (\S+) (\S+)"', svg)[0]
    return svg.replace('width="100%"', f'width="{width}" height="{height}"', 1)


def stage(folder: Path) -> None:
    """Lay out the configuration, and the pages with their pictures, in ``folder``."""
    from mermaidx import render  # noqa: PLC0415  only the extra `docs` has it

    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DOCS, folder / "pages", ignore=shutil.ignore_patterns("*.md", "*.toml"))
    shutil.copy(DOCS / "zensical.toml", folder)
    for page in PAGES:
        target = folder / "pages" / place(page)
        target.parent.mkdir(parents=True, exist_ok=True)
        text, sources = drawn(page.read_text("utf-8"), page)
        target.write_text(linked(text, page), "utf-8")
        for number, source in enumerate(sources, start=1):
            picture = target.with_name(f"{target.stem}-{number}.svg")
            picture.write_text(sized(render(source).svg()), "utf-8")


def build(folder: Path) -> Path:
    """Build the site in ``folder`` and give its first page. A broken link ends it, in words."""
    stage(folder)
    command = (sys.executable, "-m", "zensical", "build", "--strict", "--clean")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)
    return folder / "site" / "index.html"


if __name__ == "__main__":
    print(build(BUILD))  # noqa: T201
