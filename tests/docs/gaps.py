"""What the plan of the data model names and the database or the catalogue does not have.

``python -m tests.docs.gaps`` compares `planned.txt`, the tables, columns, types and words of the
plan, with a migrated database and the catalogue. It prints what is missing, what was decided
otherwise, and by which decision, and exits with 1 if anything is missing. With ``--database`` it
looks into that database instead of one of its own.
"""

import asyncio
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

import click
import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.streams import STREAMS
from tests.docs.schema import Schema, described, migrated
from tests.docs.sections import ROOT

PLAN = ROOT / "tests" / "docs" / "planned.txt"

OTHERWISE: Mapping[str, str] = {
    "table bus.outbox: ": "ADR 34: its columns are the attributes of the event",
    "table bus.replay: ": "ADR 39: a replay is the ordinary path, and keeps how far it is",
}
"""What the plan names and nobody shall build, as it is printed, with the reason: ``ADR 12: ...``.
One name stands for all that begins with it.
"""


class Planned(msgspec.Struct, frozen=True):
    """One line of the plan: a thing, and the parts that it should have."""

    kind: str
    name: str
    parts: Sequence[str]


class Gaps(msgspec.Struct, frozen=True):
    """What is missing, what was decided otherwise (with the reason), and what is as planned."""

    missing: Sequence[str]
    otherwise: Mapping[str, str]
    found: int


def plan() -> Iterator[Planned]:
    """The plan, line by line."""
    for line in PLAN.read_text("utf-8").splitlines():
        head, _, parts = line.partition(":")
        kind, _, name = head.partition(" ")
        yield Planned(kind, name, parts.split())


def compared(schema: Schema, catalogue: Catalogue) -> Gaps:
    """Compare every line."""
    known = _known(schema, catalogue)
    missing: list[str] = []
    otherwise: dict[str, str] = {}
    found = 0
    for one in plan():
        for gap in _gaps(one, known[one.kind](one.name)):
            reason = next((why for name, why in OTHERWISE.items() if gap.startswith(name)), None)
            if reason is None:
                missing.append(gap)
            else:
                otherwise[gap] = reason
        found += known[one.kind](one.name) is not None
    return Gaps(missing, otherwise, found)


def _gaps(planned: Planned, parts: frozenset[str] | None) -> Iterator[str]:
    if parts is None:
        yield f"{planned.kind} {planned.name}"
        return
    for part in planned.parts:
        if part not in parts:
            yield f"{planned.kind} {planned.name}: {part}"


Lookup = Callable[[str], frozenset[str] | None]


def _known(schema: Schema, catalogue: Catalogue) -> Mapping[str, Lookup]:
    """For each kind of thing, how to find its parts; None if there is no such thing."""
    tables = {
        name: frozenset(column.name for column in table.columns)
        for name, table in schema.tables.items()
    }
    events = {name: frozenset(kind.fields) for name, kind in catalogue.types.items()}
    functions = dict.fromkeys(schema.functions, frozenset[str]())
    buckets = dict.fromkeys(catalogue.buckets, frozenset[str]())
    streams = {name: frozenset(domains) for name, domains in STREAMS.items()}
    return {
        "table": tables.get,
        "view": tables.get,
        "event": events.get,
        "function": functions.get,
        "words": schema.words.get,
        "bucket": buckets.get,
        "stream": streams.get,
    }


def decisions_named(gaps: Mapping[str, str]) -> frozenset[int]:
    """The numbers of the decisions that the reasons name."""
    return frozenset(int(n) for why in gaps.values() for n in re.findall(r"ADR (\d+)", why))


async def _looked(dsn: str | None) -> Gaps:
    if dsn is not None:
        return compared(await described(dsn), Catalogue.load())
    async with migrated() as own:
        return compared(await described(own), Catalogue.load())


@click.command()
@click.option("--database", "dsn", metavar="DSN", help="A migrated database to look into.")
def main(dsn: str | None) -> None:
    """Print what the plan has and Penstock has not."""
    gaps = asyncio.run(_looked(dsn))
    for gap in gaps.missing:
        click.echo(f"missing    {gap}")
    for gap, why in gaps.otherwise.items():
        click.echo(f"otherwise  {gap} ({why})")
    click.echo(f"{gaps.found} found, {len(gaps.missing)} missing, {len(gaps.otherwise)} otherwise")
    sys.exit(1 if gaps.missing else 0)


if __name__ == "__main__":
    main()
