"""The parts of the pages that are made from the code.

``python -m tests.docs.sections`` rewrites them; `test_generated` fails if they are out of date.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import click
import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event_type import EventType
from penstock.worker.cli import main
from penstock.worker.commands import event_schemas
from penstock.worker.commands import events as catalogue_view
from penstock.worker.pipeline.decode import REASONS
from penstock.worker.pipeline.families import FAMILIES
from penstock.worker.settings import text as config_text
from tests.docs.fields import fields
from tests.docs.vectors import examples

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
REFERENCE = ROOT / "docs" / "reference"


def commands() -> str:
    rows = [(f"`penstock {name}`", about) for name, about in _commands(main)]
    return _table(("command", "what it does"), rows)


def _commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, (command.help or "").partition("\n")[0]


def domains() -> str:
    """One row a domain: the verbs of its types, and every table that they write."""
    found: dict[str, list[EventType]] = {}
    for kind in Catalogue.load().types.values():
        found.setdefault(kind.name.partition(".")[0], []).append(kind)
    rows = [
        (
            f"`{name}`",
            ", ".join(kind.name.partition(".")[2] for kind in kinds),
            ", ".join(dict.fromkeys(table for kind in kinds for table in kind.tables)),
        )
        for name, kinds in found.items()
    ]
    return _table(("domain", "events", "tables"), rows)


def events() -> str:
    return catalogue_view.markdown(Catalogue.load())


def event_fields() -> str:
    """Every type with its subject's key and the fields of its data."""
    parts = []
    for kind in Catalogue.load().types.values():
        schema = event_schemas.event_schema(kind)
        rows = [tuple(msgspec.structs.astuple(field)) for field in fields(schema)]
        table = _table(("field", "value", "default"), rows) if rows else "It has no fields.\n"
        parts.append(f"### {kind.name}\n\n{schema['description']}\n\n{table}")
    return "\n".join(parts)


def metrics() -> str:
    rows = [
        (f"`{f.name}`", f.kind.__name__.lower(), ", ".join(f.labels), f.about) for f in FAMILIES
    ]
    return _table(("metric", "kind", "labels", "meaning"), rows)


def reasons() -> str:
    return _table(("reason", "meaning"), [(f"`{name}`", about) for name, about in REASONS.items()])


def _table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [titles, ("---",) * len(titles), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


SECTIONS: Mapping[str, tuple[Path, Callable[[], str]]] = {
    "domains": (README, domains),
    "commands": (REFERENCE / "commands.md", commands),
    "events": (REFERENCE / "events.md", events),
    "fields": (REFERENCE / "events.md", event_fields),
    "examples": (ROOT / "docs" / "any-language.md", examples),
    "settings": (REFERENCE / "settings.md", config_text.markdown),
    "metrics": (REFERENCE / "metrics.md", metrics),
    "reasons": (REFERENCE / "dead-letters.md", reasons),
}
"""Each section: the page that holds it, and what makes it."""


def marked(name: str) -> re.Pattern[str]:
    """A section: its marker, what it holds, and the marker of its end."""
    return re.compile(rf"(<!-- {name}: made from the code -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def refresh() -> None:
    """Rewrite every section."""
    for name, (page, make) in SECTIONS.items():
        before, begin, _, end, after = marked(name).split(page.read_text("utf-8"))
        page.write_text(f"{before}{begin}\n{make()}\n{end}{after}", "utf-8")


if __name__ == "__main__":
    refresh()
