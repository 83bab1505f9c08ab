"""docs/data-model.md: every table and view, made from the migrated database and the catalogue.

What a column means has one source: its COMMENT in the migrations, which psql shows too. Columns
that mean the same in every table are explained once, in `SAME_EVERYWHERE`. The values that a column
may have are those of the event's field that states it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.columns import Written, written
from penstock.schemas.event_type import EventType
from penstock.schemas.mapping import Field, History
from penstock.worker.commands.event_schemas import event_schema
from tests.docs.fields import fields
from tests.docs.schema import Column, Schema, Table

SAME_EVERYWHERE: Mapping[str, str] = {
    "event_id": "The event: its CloudEvents id if that is a UUID, else made of source and id",
    "occurred_at": "The event's time",
    "recorded_at": "When the row was written",
    "external_id": "The text that the key was made from, as it is on the bus; NULL if none",
    "is_stub": "True while nothing is known but that another row refers to this one",
    "updated_at": "When the row was last written",
    "created_at": "The time of the earliest event that states the facts of the beginning",
    "created_event": "That event",
    "deleted_at": "When it was taken away; the row stays. NULL: it is there",
    "corr": "The event's `correlationid`",
    "cause": "The event's `causationid`",
    "actor": "Who did it, as the event says",
    "source": "The event's source: the program that sent it",
}
OTHER_NAMES = "compat"
"""A schema whose views only repeat others; docs/sources.md lists them."""
UNITS: Mapping[str, str] = {
    "_ms": "ms",
    "_mb": "MB",
    "_pct": "percent",
    "_s": "s",
    "_bytes": "bytes",
}
_GUARD = {
    "version": "The `sequence` of the event that decided",
    "at": "Its time",
    "event": "Its id",
}


class Stated(msgspec.Struct, frozen=True):
    """What an event type writes into a column."""

    event: str
    policy: str
    values: str


def page(schema: Schema) -> str:
    """The generated part of the page."""
    catalogue = Catalogue.load()
    stated = _stated(catalogue)
    parts = [
        _domain(schema, name, about, stated)
        for name, about in schema.schemas.items()
        if name != OTHER_NAMES
    ]
    return "\n".join(part for part in parts if part)


def _domain(schema: Schema, name: str, about: str | None, stated: Mapping[Any, Any]) -> str:
    found = [table for table in schema.tables.values() if table.schema == name]
    if not found:
        return ""
    tables = [_table(table, stated) for table in found if not table.is_view]
    views = "".join(
        f"| `{view.name}` | {_cell(view.about)} | {', '.join(c.name for c in view.columns)} |\n"
        for view in found
        if view.is_view
    )
    listed = (
        f"### Views of {name}\n\n| view | what | columns |\n|---|---|---|\n{views}" if views else ""
    )
    return "\n".join([f"## {name}\n", f"{about or ''}\n", diagram(found), *tables, listed])


def diagram(tables: list[Table]) -> str:
    """How the tables of a domain refer to each other and to others; nothing if none does."""
    lines = [
        f'    "{one.table}" ||--o{{ "{table.name}" : {one.column}'
        for table in tables
        for one in table.references
    ]
    return "```mermaid\nerDiagram\n" + "\n".join(lines) + "\n```\n" if lines else ""


def _table(table: Table, stated: Mapping[tuple[str, str], list[Stated]]) -> str:
    events = sorted(
        {s.event for column in table.columns for s in stated.get((table.name, column.name), [])}
    )
    facts = [
        f"- key: {', '.join(f'`{column}`' for column in table.key) or 'none'}",
        f"- written by: {', '.join(map(_event, events)) or 'no event'}",
        f"- partitioned: {table.partitions}" if table.partitions else "",
        *(f"- retention: {policy}" for policy in table.policies),
    ]
    rows = "".join(_row(table, column, stated) for column in table.columns)
    head = "| column | type | meaning | values | policy: events |\n|---|---|---|---|---|\n"
    about = f"{_cell(table.about)}\n\n" if table.about else ""
    return f"### {table.name}\n\n{about}" + "\n".join(filter(None, facts)) + f"\n\n{head}{rows}"


def _event(name: str) -> str:
    return f"[`{name}`](reference/events.md#{name.replace('.', '')})"


def _row(table: Table, column: Column, stated: Mapping[tuple[str, str], list[Stated]]) -> str:
    found = stated.get((table.name, column.name), [])
    values = next((one.values for one in found if one.values), "")
    unit = next((unit for end, unit in UNITS.items() if column.name.endswith(end)), "")
    policies: dict[str, list[str]] = {}
    for one in found:
        policies.setdefault(one.policy, []).append(one.event)
    every = "; ".join(
        f"{policy}: {', '.join(dict.fromkeys(events))}" for policy, events in policies.items()
    )
    told = f"{values}, in {unit}" if values and unit else values or unit
    kind = column.type.replace("timestamp with time zone", "timestamptz")
    required = kind if column.required else f"{kind}, or NULL"
    meaning = _cell(_meaning(table, column, found))
    return f"| `{column.name}` | {required} | {meaning} | {_cell(told)} | {every} |\n"


def _meaning(table: Table, column: Column, found: list[Stated]) -> str | None:
    if column.about:
        return column.about
    for one in table.references:
        if one.column == column.name:
            return f"Refers to `{one.table}`"
    if any(one.policy == "guard" for one in found) and column.name not in SAME_EVERYWHERE:
        prefix, _, end = column.name.rpartition("_")
        group = f", of the group `{prefix}`" if prefix and prefix != "version" else ""
        return _GUARD.get(end, "") + group
    return SAME_EVERYWHERE.get(column.name)


def _stated(catalogue: Catalogue) -> dict[tuple[str, str], list[Stated]]:
    found: dict[tuple[str, str], list[Stated]] = {}
    for kind in catalogue.types.values():
        said = {field.name.strip("`"): field.value for field in fields(event_schema(kind))}
        for one in written(kind):
            values = _values(kind, one, said)
            stated = Stated(kind.name, one.policy, values)
            found.setdefault((one.table, one.column), []).append(stated)
    return found


def _values(kind: EventType, one: Written, said: Mapping[str, str]) -> str:
    """What the field may be that the column is stated from; nothing if it is from none."""
    if one.policy == "guard":
        return ""
    for name in _sources(kind, one):
        if name in said:
            return _plain(said[name], one.kind)
    return ""


def _plain(values: str, kind: str | None) -> str:
    """Without what the type says already, and the limits of PostgreSQL's integers."""
    for limit in (2**31 - 1, 2**63 - 1):
        values = values.replace(f"0 to {limit}", "0 or more").replace(f"1 to {limit}", "1 or more")
    return "an id" if kind == "id" else values.replace("; or null", "")


def _sources(kind: EventType, one: Written) -> Iterator[str]:
    history = kind.spec.history
    if isinstance(history, History) and history.table == one.table:
        source = history.values.get(one.column, Field(one.column))
        if isinstance(source, Field):
            yield source.name
    for upsert in kind.spec.states:
        source = upsert.source(one.column)
        if upsert.table == one.table and isinstance(source, Field):
            yield source.name


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|").replace("\n", " ")
