"""The catalogue against the database: what an event writes has a place there, or nobody starts.

A column that is missing, or that cannot hold what comes, would make a dead letter of every event of
its type. Only what fails for certain is a `Misfit`; types that Penstock does not know are let pass.
"""

import re
from collections.abc import Iterator, Sequence

import asyncpg

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.columns import Written, written
from penstock.schemas.event_type import EventType, Rows, State
from penstock.worker.errors import MigrationError
from penstock.worker.postgres.errors import translated
from penstock.worker.postgres.tables import Check, Column, Table, read_tables

_TEXTS = {"text", "character varying", "character", "name"}
_WHOLE = {"smallint", "integer", "bigint"}
_REAL = {"real", "double precision"}
_TAKES = {
    "text": _TEXTS | {"uuid", "inet", "cidr", "json", "numeric", "xml"},
    "id": _TEXTS | {"uuid"},
    "json": {"jsonb", "bytea"},
    "integer": _WHOLE | _REAL | {"numeric"},
    "number": _REAL | {"numeric"},
    "decimal": {"numeric"},
    "boolean": {"boolean"},
    "moment": {"timestamp with time zone", "date"},
    "day": {"date"},
    "bytes": {"bytea"},
}
"""Which columns a kind of value fits into, as asyncpg encodes it."""

_EXACT = {
    "text": _TEXTS,
    "id": _TEXTS | {"uuid"},
    "integer": _WHOLE | {"numeric"},
    "number": {"double precision", "numeric"},
    "decimal": {"numeric"},
    "boolean": {"boolean"},
    "moment": {"timestamp with time zone"},
    "day": {"date"},
}
"""Where two values are equal and in order only if they are so here: for keys, max and min."""

_KNOWN = set().union(*_TAKES.values()) | {"timestamp without time zone", "interval"}
_MODIFIED = re.compile(r"\(.*\)")
_NATURE = {"id": "uuid", "moment": "timestamp with time zone", "integer": "bigint"}


_CREATE = "correct the name, or create it in a migration"
_NO_FUNCTION = """
SELECT g.name FROM unnest($1::text[]) AS g (name)
WHERE NOT EXISTS (
    SELECT FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname || '.' || p.proname = g.name
)
"""


async def check_mappings(pool: asyncpg.Pool, catalogue: Catalogue) -> None:
    """Raise MigrationError if events could not be stored, and name all that is wrong."""
    if found := await misfits(pool, catalogue):
        lines = "\n  ".join(found)
        raise MigrationError(f"the database does not fit the mapping of events:\n  {lines}")


async def misfits(pool: asyncpg.Pool, catalogue: Catalogue) -> list[str]:
    """What keeps events from being stored, each with the type, its package and what to do."""
    kinds = list(catalogue.types.values())
    names = {*catalogue.tables, *(kind.history.relation for kind in kinds if kind.history)}
    with translated():
        tables = await read_tables(pool, sorted(names))
        missing = [name for (name,) in await pool.fetch(_NO_FUNCTION, list(catalogue.derived))]
    found = dict.fromkeys([*_all(kinds, tables), *_judged(catalogue, tables)])
    return [
        *(f"{problem} ({_users(kinds, table)})" for table, problem in found),
        *(f"{name}: no such function, which a Derive names; {_CREATE}" for name in missing),
    ]


def _users(kinds: Sequence[EventType], table: str) -> str:
    """Which events write the table, and where they are declared."""
    users = [k for k in kinds if table in k.tables or (k.history and table == k.history.relation)]
    more = f" and {len(users) - 3} more" if len(users) > 3 else ""  # noqa: PLR2004
    modules = dict.fromkeys(kind.spec.struct.__module__ for kind in users)
    return f"{', '.join(kind.name for kind in users[:3])}{more} of {', '.join(modules)}"


def _all(kinds: Sequence[EventType], tables: dict[str, Table]) -> Iterator[tuple[str, str]]:
    """Each table with what is wrong with it."""
    for kind in kinds:
        for name in kind.tables:
            if name not in tables:
                yield name, _missing(name)
        for state in kind.states:
            if found := tables.get(state.table):
                yield from _of_state(found, state.key_columns)
        if kind.history and kind.history.table in tables:
            yield from _of_history(kind.history, tables)
        for column in written(kind):
            if found := tables.get(column.table):
                yield from _of_column(found, column)


def _missing(name: str) -> str:
    if "." not in name:
        return f"{name}: a table is named with its schema, as in shop.{name}"
    return f"{name}: no such table; correct the name, or create it in a migration"


def _of_column(table: Table, column: Written) -> Iterator[tuple[str, str]]:
    place, found = f"{table.name}.{column.column}", table.columns.get(column.column)
    if found is None:
        remedy = "correct the name, or add it in a migration"
        yield table.name, f"{place}: no such column; {remedy}"
        return
    base = _MODIFIED.sub("", found.type).replace("  ", " ")
    takes = _EXACT if column.policy in ("key", "max", "min") else _TAKES
    fitting = takes.get(column.kind or "", _KNOWN)
    if base in _KNOWN and base not in fitting:
        yield table.name, f"{place} is {found.type}, but gets {column.kind}; {_use(fitting)}"
    elif problem := _unsteady(column, found, base):
        yield table.name, f"{place} is {found.type}: {problem}"


def _use(types: set[str]) -> str:
    preferred = ("uuid", "text", "jsonb", "bigint", "double precision", "boolean")
    usual = [name for name in preferred if name in types]
    return f"make it {(usual or sorted(types, reverse=True))[0]}"


def _unsteady(column: Written, found: Column, base: str) -> str | None:
    """Why the column would depend on the order or the way in which events come."""
    if column.policy == "guard" and base != _NATURE[column.kind or ""]:
        return f"the guard is compared by it; make it {_NATURE[column.kind or '']}"
    if column.policy != "history" and base != found.type:
        whole = "text" if base in _TEXTS else base
        return f"what it cuts or rounds depends on what comes together; make it {whole}"
    if column.policy == "key" and not found.deterministic:
        return "texts that differ are equal there; give it a deterministic collation"
    if column.column == "occurred_at" and found.type != _NATURE["moment"]:
        return f"it tells which events are stored already; make it {_NATURE['moment']}"
    if column.policy == "add" and base not in _WHOLE | {"numeric"}:
        return "sums of it depend on their order; make it bigint or numeric"
    return None


def _of_state(table: Table, key: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """An upsert needs a key to find its row by."""
    if set(key) <= set(table.columns) and frozenset(key) not in table.keys:
        yield table.name, _no_key(table.name, key)
    if table.partitioned and table.policy not in key:
        yield table.name, _no_policy(table)


def _judged(catalogue: Catalogue, tables: dict[str, Table]) -> Iterator[tuple[str, str]]:
    """Of events that come together only the result is written, so no constraint may judge what
    they change. Rows that one event makes are written as it says.
    """
    for kind in catalogue.types.values():
        for state in kind.states:
            if state.table in tables and state.table not in catalogue.made:
                changed = _changed(state)
                for check in tables[state.table].checks:
                    if check.columns & changed:
                        yield state.table, _judges(state.table, check)


def _changed(state: State) -> set[str]:
    """The columns of a row beside its key."""
    groups = [group for group, _ in state.groups]
    return {name for one in groups for name in (*one.columns, *one.guard)} - set(state.key_columns)


def _of_history(rows: Rows, tables: dict[str, Table]) -> Iterator[tuple[str, str]]:
    table, parts = tables[rows.table], tables.get(rows.relation)
    if set(rows.key) <= set(table.columns) and frozenset(rows.key) not in table.keys:
        yield table.name, _no_key(table.name, rows.key)
    for name, column in table.columns.items():
        if column.required and not column.filled and name not in rows.columns:
            yield table.name, f"{table.name}.{name} is NOT NULL, but no event writes it; drop that"
    if parts is None:
        yield rows.relation, _no_part(rows)
    elif parts.partitioned and parts.policy not in rows.columns:
        yield parts.name, _no_policy(parts)


def _no_key(table: str, key: tuple[str, ...]) -> str:
    return f"{table}: no primary key on ({', '.join(key)}), by which rows are found; add it"


def _judges(table: str, check: Check) -> str:
    return (
        f"{table}: constraint {check.name}, {check.text}: whether it refuses an event depends on "
        "what comes together; drop it, and let the struct refuse the event, by Meta of a field or "
        "by __post_init__"
    )


def _no_part(rows: Rows) -> str:
    domain = rows.relation.removeprefix(f"{rows.table}_")
    return (
        f"{rows.relation}: no such table; CREATE TABLE {rows.relation} PARTITION OF {rows.table} "
        f"FOR VALUES IN ('{domain}') PARTITION BY RANGE (occurred_at)"
    )


def _no_policy(table: Table) -> str:
    if table.policy:
        return (
            f"{table.name}: partitions.policy says column {table.policy}, which no event of this "
            f"type writes; partition it by one that it does"
        )
    return (
        f"{table.name} is partitioned, but has no row in partitions.policy, so nobody makes its "
        "partitions; insert one in the migration that creates it"
    )
