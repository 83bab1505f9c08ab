"""Where something is: a place that a list names, and whether it is really there."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.worker.cli import main
from tests.docs.schema import Schema
from tests.docs.sections import ROOT

LISTS = ROOT / "tests" / "docs"


class Line(msgspec.Struct, frozen=True):
    """A line of a list: ``head: places | note``."""

    head: str
    places: Sequence[str]
    note: str


class Place(msgspec.Struct, frozen=True):
    """A place as a page shows it. ``state`` is ``here``, ``missing``, or ``out``: for others."""

    text: str
    state: str


def lines(name: str) -> Iterator[Line]:
    """The lines of a checked-in list, without comments."""
    for text in (LISTS / name).read_text("utf-8").splitlines():
        if not text.startswith("#"):
            head, _, rest = text.partition(": ")
            places, _, note = rest.partition(" | ")
            whole = places.startswith(("out: ", "missing: "))
            yield Line(head, [places] if whole else places.split(", "), note)


class Places:
    """Finds places: ``a.table``, ``a.type`` of event, ``penstock COMMAND``, ``ADR 3``, ``bucket
    B``, a path of the tree; ``out: why`` is for others to do, ``missing: what`` nobody has done.
    """

    def __init__(self, schema: Schema) -> None:
        catalogue = Catalogue.load()
        self._names = {*schema.tables, *schema.functions, *catalogue.types}
        self._tables = schema.tables
        self._buckets = frozenset(catalogue.buckets)
        self._commands = frozenset(_commands(main, "penstock"))

    def find(self, place: str) -> Place:
        """Look whether it is there."""
        word, _, rest = place.partition(" ")
        finders: dict[str, Callable[[str], Place]] = {
            "out:": lambda why: Place(why, "out"),
            "missing:": lambda what: Place(what, "missing"),
            "ADR": _decision,
            "bucket": lambda name: _place(f"bucket `{name}`", name in self._buckets),
            "penstock": lambda _: _place(f"`{place}`", place in self._commands),
        }
        return finders[word](rest) if word in finders else self._thing(place)

    def _thing(self, name: str) -> Place:
        if "/" in name:
            return _place(f"`{name}`", (ROOT / name).exists())
        if name in self._tables and not self._tables[name].is_view:
            return Place(f"[`{name}`](data-model.md#{name.replace('.', '')})", "here")
        return _place(f"`{name}`", name in self._names)


def shown(places: Sequence[Place]) -> str:
    """The places of one line, for a cell; those that are missing are named so."""
    return ", ".join(
        f"**missing:** {place.text}" if place.state == "missing" else place.text for place in places
    )


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    made = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in made)


def _place(text: str, there: Any) -> Place:
    return Place(text, "here" if there else "missing")


def _decision(number: str) -> Place:
    found: list[Path] = sorted((ROOT / "docs" / "decisions").glob(f"{int(number):04}-*.md"))
    if not found:
        return Place(f"decision {number}", "missing")
    return Place(f"[decision {number}](decisions/{found[0].name})", "here")


def _commands(group: click.Group, prefix: str) -> Iterator[str]:
    for name, command in group.commands.items():
        yield f"{prefix} {name}"
        if isinstance(command, click.Group):
            yield from _commands(command, f"{prefix} {name}")
