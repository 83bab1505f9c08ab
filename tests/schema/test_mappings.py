"""The catalogue against the migrated database: what is written has a column that can hold it."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import asyncpg
import pytest
from msgspec import inspect

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.generic import LOG_COLUMNS, audit_sources
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
from penstock.schemas.policies import source_type
from penstock.schemas.references import named
from penstock.schemas.vocabulary import DOMAINS

CATALOGUE = Catalogue.load()
TYPES = list(CATALOGUE.types.values())
INTEGERS = {"smallint": 2**15 - 1, "integer": 2**31 - 1, "bigint": 2**63 - 1}
ATTRIBUTES = {
    Attribute.OCCURRED_AT: "timestamp with time zone",
    Attribute.EVENT_ID: "uuid",
    Attribute.VERSION: "bigint",
    Attribute.PROJECT: "uuid",
    Attribute.OCCURRED_DAY: "date",
    Attribute.INDEX: "integer",
}
CONSTANTS: Mapping[type, Collection[str]] = {
    bool: {"boolean"},
    int: INTEGERS,
    str: {"text"},
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
            extra = kind.extra or {}
            stated = {"id": "uuid", "json": "jsonb"}.get(next(iter(extra), ""), extra.get("sql"))
            return column_type == stated if stated else self.holds(column_type, kind.type)
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
    inspect.DateType: "date",
    inspect.BytesType: "bytea",
}


def _fits(kind: inspect.IntType, biggest: int) -> bool:
    high = kind.le if kind.le is not None else (kind.lt or 2**64) - 1
    return kind.ge is not None and kind.ge >= -biggest - 1 and high <= biggest


@pytest.fixture
async def schema(database: str) -> Schema:
    connection = await asyncpg.connect(database)
    rows = [tuple(row) for row in await connection.fetch(_COLUMNS)]
    await connection.close()
    return Schema(rows)


def written(spec: EventSpec) -> Iterator[tuple[str, str, Upsert | None, Any]]:
    """Every (table, column, upsert, source) that an event writes; source is as in ``values``."""
    history = spec.history
    if isinstance(history, History):
        for column in history.columns:
            yield history.table, column, None, history.values.get(column, Field(column))
    if isinstance(history, AuditLog):
        for column, source in audit_sources(spec, history).items():
            yield history.table, column, None, source
    for upsert in spec.states:
        for _, column in upsert.placed:
            yield upsert.table, column, upsert, upsert.source(column)


def fits(
    schema: Schema,
    spec: EventSpec,
    column: str,
    column_type: str,
    upsert: Upsert | None,
    source: Any,
) -> bool:
    kind = source_type(spec, upsert, column, source)
    if kind is not None:
        return schema.holds(column_type, kind)
    if source is None or isinstance(source, Field):
        return True  # a group's column that the struct does not have is stated as NULL
    if isinstance(source, Attribute):
        return column_type == ATTRIBUTES.get(source, "text")
    if isinstance(source, tuple(DOMAINS.values())):
        return column_type == DOMAIN_OF[type(source)]
    return column_type in CONSTANTS[type(source)]


async def test_every_column_exists_and_can_hold_its_values(schema: Schema) -> None:
    assert len(TYPES) > 30
    for kind in TYPES:
        for table, column, upsert, source in written(kind.spec):
            place = f"{kind.name}: {table}.{column}"
            assert column in schema.tables[table], place
            found = schema.tables[table][column]
            assert fits(schema, kind.spec, column, found, upsert, source), f"{place} {found}"


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
    derived = {
        "collab.vote_session": {"results", "winner"},
        "merit.standing": {"tier"},
        "merit.battle_participant": {
            *("rated_at", "rated_event", "old_rating", "new_rating", "expected", "actual"),
        },
        "audit.log": {"db_user", "txid", *LOG_COLUMNS[3:]},
    }
    used: dict[str, set[str]] = {}
    for kind in TYPES:
        for table, column, _, _ in written(kind.spec):
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
            for table, column, upsert, source in written(kind.spec):
                if upsert is None or (table, column) != (child, field):
                    continue
                name = named(upsert, source)
                absent = isinstance(source, Field) and source.name not in kind.fields
                assert absent or Ref(name or "", parent) in kind.spec.refs, f"{kind.name}: {parent}"


async def test_parents_keep_the_text_of_their_key(schema: Schema) -> None:
    parents = {ref.table for kind in TYPES for ref in kind.spec.refs}
    assert len(parents) > 5
    for table in parents:
        assert schema.tables[table]["external_id"] == "text"
        for kind in TYPES:
            for upsert in kind.spec.states:
                if upsert.table == table:
                    assert upsert.once == ("external_id",)
