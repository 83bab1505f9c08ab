"""The site builds without a broken link, has a search, and fetches nothing from the web."""

import re
import tomllib
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.docs.pages import PAGES
from tests.docs.sections import README, ROOT
from tests.docs.site import DOCS, build, drawn, linked, place

needs_zensical = pytest.mark.skipif(
    find_spec("zensical") is None, reason="not built: Zensical is missing, `make docs` installs it"
)


class Fetched(HTMLParser):
    """What a browser loads for a page: everything but what a reader clicks on."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag != "a" and named.get("rel") != "canonical":
            self.addresses |= {named.get(name) or "" for name in ("src", "href", "data")} - {""}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("site") / "docs").parent


@pytest.mark.faults
@needs_zensical
def test_a_page_of_the_site_fetches_nothing_from_the_web(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        fetched = Fetched(page.read_text("utf-8")).addresses
        assert any(address.endswith(".css") for address in fetched)
        assert not [address for address in fetched if re.match(r"(?:\w+:)?//", address)], page
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import )[\"']?(?:https?:)?//", style.read_text("utf-8"))


@pytest.mark.faults
@needs_zensical
def test_the_search_knows_every_page(site: Path) -> None:
    index = (site / "search.js").read_text("utf-8")
    for page in PAGES:
        assert str(place(page).with_suffix(".html")) in index


@pytest.mark.faults
@needs_zensical
def test_a_diagram_is_a_picture(site: Path) -> None:
    assert "one transaction" in (site / "architecture-1.svg").read_text("utf-8")
    assert "mermaid" not in (site / "architecture.html").read_text("utf-8").partition("<main")[2]


def test_every_page_is_in_the_navigation() -> None:
    config = (DOCS / "zensical.toml").read_text("utf-8")
    listed = re.findall(r'"([\w/-]+\.md)"', config)
    assert tomllib.loads(config)["project"]["nav"]
    below = ROOT / "docs" / "decisions"
    pages = [page for page in PAGES if page.parent != below or page.name == "README.md"]
    assert sorted(listed) == sorted(str(place(page)) for page in pages)


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("[a](docs/operations.md#tuning)", "[a](operations.md#tuning)"),
        ("[a](docs/decisions/README.md)", "[a](decisions/index.md)"),
        ("[LICENSE](LICENSE)", "`LICENSE`"),
        ("[the mix](benchmarks/mix.py)", "the mix (`benchmarks/mix.py`)"),
        ("[a](#below) [b](https://example.com/x)", "[a](#below) [b](https://example.com/x)"),
        ("```\n[a](docs/operations.md)\n```", "```\n[a](docs/operations.md)\n```"),
    ],
)
def test_links_are_those_of_the_site(text: str, changed: str) -> None:
    assert linked(text, README) == changed


def test_links_between_folders_are_relative() -> None:
    page = DOCS / "decisions" / "README.md"
    assert linked("[a](../../README.md) [b](../operations.md)", page) == (
        "[a](../index.md) [b](../operations.md)"
    )


def test_diagrams_become_pictures_in_their_order() -> None:
    text = "```mermaid\nA-->B\n```\n\nand\n\n```mermaid\nC-->D\n```"
    assert drawn(text, DOCS / "operations.md") == (
        "![Diagram](operations-1.svg)\n\nand\n\n![Diagram](operations-2.svg)",
        ["A-->B\n", "C-->D\n"],
    )
