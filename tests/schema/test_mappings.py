"""The catalogue against the migrated database: what is written has a column that can hold it."""

from collections.abc import Iterator, Mapping
from typing import Any

import asyncpg
import pytest
from msgspec import inspect

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.fields import field_types
from penstock.schemas.mapping import (
    Attribute,
    AuditLog,
    EventSpec,
    Field,
    History,
    Log,
    Ref,
    Upsert,
)
from penstock.schemas.rows import LOG_COLUMNS
from penstock.schemas.vocabulary import DOMAINS

CATALOGUE = Catalogue.load()
TYPES = list(CATALOGUE.types.values())
INTEGERS = {"smallint": 2**15 - 1, "integer": 2**31 - 1, "bigint": 2**63 - 1}
ATTRIBUTES = {
    Attribute.OCCURRED_AT: "timestamp with time zone",
    Attribute.EVENT_ID: "uuid",
    Attribute.VERSION: "bigint",
}
GUARD = {"version": "bigint", "at": "timestamp with time zone", "event": "uuid"}
DOMAIN_OF: Mapping[type, str] = {words: f"vocab.{name}" for name, words in DOMAINS.items()}

Columns = Mapping[str, str]
"""The columns of a table with their types, domains by their own names."""

_COLUMNS = """
SELECT n.nspname || '.' || c.relname, a.attname,
       format_type(a.atttypid, a.atttypmod),
       format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL)
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p') AND NOT c.relispartition
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attnum > 0 AND NOT a.attisdropped
"""


class Schema:
    """Tables with their columns, and the base type of every domain."""

    def __init__(self, rows: list[tuple[str, str, str, str]]) -> None:
        self.tables: dict[str, dict[str, str]] = {}
        self.bases: dict[str, str] = {}
        for table, column, kind, base in rows:
            self.tables.setdefault(table, {})[column] = kind
            self.bases[kind] = base

    def holds(self, column_type: str, kind: inspect.Type) -> bool:
        """A column of this type takes every value of ``kind`` that msgspec lets through."""
        if isinstance(kind, inspect.UnionType):
            parts = [part for part in kind.types if not isinstance(part, inspect.NoneType)]
            return all(self.holds(column_type, part) for part in parts)
        if isinstance(kind, inspect.Metadata):
            named = {"id": "uuid", "json": "jsonb"}.get(next(iter(kind.extra or {}), ""))
            return column_type == named if named else self.holds(column_type, kind.type)
        if isinstance(kind, inspect.EnumType):
            return column_type == DOMAIN_OF[kind.cls]
        if isinstance(kind, inspect.IntType):
            return _fits(kind, INTEGERS.get(self.bases[column_type], -1))
        return SCALARS.get(type(kind), "jsonb") == self.bases[column_type]


SCALARS: Mapping[type, str] = {
    inspect.StrType: "text",
    inspect.FloatType: "double precision",
    inspect.BoolType: "boolean",
    inspect.DateTimeType: "timestamp with time zone",
}


def _fits(kind: inspect.IntType, biggest: int) -> bool:
    high = kind.le if kind.le is not None else (kind.lt or 2**64) - 1
    return kind.ge is not None and kind.ge >= 0 and high <= biggest


@pytest.fixture
async def schema(database: str) -> Schema:
    connection = await asyncpg.connect(database)
    rows = [tuple(row) for row in await connection.fetch(_COLUMNS)]
    await connection.close()
    return Schema(rows)


def written(spec: EventSpec) -> Iterator[tuple[str, str, Any]]:
    """Every (table, column, source) that an event writes; source is as in ``values``."""
    history = spec.history
    if isinstance(history, History):
        for column in history.columns:
            yield history.table, column, history.values.get(column, Field(column))
    for upsert in spec.states:
        for column in columns_of(upsert):
            yield upsert.table, column, upsert.values.get(column, Field(column))


def columns_of(upsert: Upsert) -> tuple[str, ...]:
    policies = (upsert.last, upsert.first, upsert.max, upsert.min, upsert.add, upsert.once)
    return (*upsert.key, *(c for policy in policies for c in policy), *upsert.rank)


def item_type(spec: EventSpec) -> inspect.Type:
    """The type of an element of the list that a fan-out goes over."""
    (each,) = {upsert.each for upsert in spec.states if upsert.each}
    found = field_types(spec.struct)[each]
    if isinstance(found, inspect.UnionType):
        found = next(part for part in found.types if isinstance(part, inspect.ListType))
    assert isinstance(found, inspect.ListType)
    return found.item_type


def fits(schema: Schema, spec: EventSpec, column_type: str, source: Any) -> bool:
    fields = field_types(spec.struct)
    if isinstance(source, Field):
        # A group's column that the struct does not have is stated as NULL.
        return source.name not in fields or schema.holds(column_type, fields[source.name])
    if source is Attribute.ITEM:
        return schema.holds(column_type, item_type(spec))
    if isinstance(source, Attribute):
        return column_type == ATTRIBUTES.get(source, "text")
    if isinstance(source, tuple(DOMAINS.values())):
        return column_type == DOMAIN_OF[type(source)]
    return {bool: "boolean", int: "integer", str: "text"}[type(source)] == column_type


async def test_every_column_exists_and_can_hold_its_values(schema: Schema) -> None:
    assert len(TYPES) > 30
    for kind in TYPES:
        for table, column, source in written(kind.spec):
            assert column in schema.tables[table], f"{kind.name} writes {table}.{column}"
            found = schema.tables[table][column]
            assert fits(schema, kind.spec, found, source), f"{kind.name}: {table}.{column} {found}"


async def test_every_guard_has_its_columns(schema: Schema) -> None:
    for group in (group for kind in TYPES for state in kind.states for group, _ in state.groups):
        for column in group.guard:
            expected = GUARD[column.rpartition("_")[2]]
            assert schema.tables[group.table][column] == expected, f"{group.table}.{column}"


async def test_the_generic_histories_have_their_columns(schema: Schema) -> None:
    for kind in TYPES:
        if isinstance(kind.spec.history, Log | AuditLog):
            assert kind.history is not None
            assert set(kind.history.columns) <= set(schema.tables[kind.history.table])
    assert set(LOG_COLUMNS) <= set(schema.tables["events.log"])


async def test_a_column_that_no_event_writes_is_a_clock_a_mark_or_derived(schema: Schema) -> None:
    own = {"is_stub", "updated_at", "recorded_at", "event_id", "occurred_at"}
    derived = {"collab.vote_session": {"results", "winner"}}
    used: dict[str, set[str]] = {}
    for kind in TYPES:
        for table, column, _ in written(kind.spec):
            used.setdefault(table, set()).add(column)
        for state in kind.states:
            for group, _ in state.groups:
                used[state.table].update(group.guard)
    for table, columns in used.items():
        assert set(schema.tables[table]) - columns - own == derived.get(table, set()), table


async def test_every_reference_of_the_database_is_declared(database: str) -> None:
    """A parent that is not declared would not be there when its child is written."""
    connection = await asyncpg.connect(database)
    found = await connection.fetch(
        "SELECT n.nspname || '.' || c.relname AS child, a.attname AS field,"
        " pn.nspname || '.' || p.relname AS parent, k.confdeltype::text AS on_delete"
        " FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_class p ON p.oid = k.confrelid"
        " JOIN pg_namespace pn ON pn.oid = p.relnamespace"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.conkey[1]"
        " WHERE k.contype = 'f'"
    )
    await connection.close()
    assert len(found) > 10
    for child, field, parent, on_delete in found:
        assert on_delete == "r", f"{child}.{field} deletes more than it says"
        for kind in TYPES:
            sources = {s for t, c, s in written(kind.spec) if (t, c) == (child, field)}
            stated = {s.name for s in sources if isinstance(s, Field)}
            for name in stated & set(field_types(kind.spec.struct)):
                assert Ref(name, parent) in kind.spec.refs, f"{kind.name}: {name} -> {parent}"


async def test_parents_keep_the_text_of_their_key(schema: Schema) -> None:
    parents = {ref.table for kind in TYPES for ref in kind.spec.refs}
    assert len(parents) > 5
    for table in parents:
        assert schema.tables[table]["external_id"] == "text"
        for kind in TYPES:
            for upsert in kind.spec.states:
                if upsert.table == table:
                    assert upsert.once == ("external_id",)
