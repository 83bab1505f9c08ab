"""Sums computed again: what columns under ``add`` should hold, by the histories of their events.

An event is folded into a sum once, in the transaction that stored its history. So the history knows
every sum, as long as it is whole: see `expected_sums`.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import asyncpg
import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Event
from penstock.schemas.event_type import EventType, State
from penstock.schemas.recall import fields_of
from penstock.worker.errors import SinkUnavailable
from penstock.worker.pipeline.folds import Folded, fold
from penstock.worker.pipeline.plan import changes_of
from penstock.worker.postgres import statements
from penstock.worker.postgres.copy import Rows, copy
from penstock.worker.postgres.errors import translated
from penstock.worker.postgres.past import Past
from penstock.worker.postgres.pool import borrowed
from penstock.worker.postgres.statements import quoted
from penstock.worker.postgres.transaction import Connection

_CHUNK = 5_000
_HOURS = 24 * 3600.0
"""Seconds for a statement, however large a history is."""
_STAGE = "penstock_sums"
_TURN = "SELECT pg_try_advisory_lock(hashtextextended('penstock.sums', 0))"
_OVER = "SELECT pg_advisory_unlock(hashtextextended('penstock.sums', 0))"
_DETACHED = """
SELECT partition_name FROM partitions.detached
WHERE schema_name || '.' || table_name = $1 AND attached_until IS NULL
ORDER BY lower_bound LIMIT 1
"""


class WrongSum(msgspec.Struct, frozen=True):
    """A row whose sums are not those of its events. ``key`` has the key as text, column by column;
    ``held`` and ``expected`` the sums by column. ``missing`` if there is no such row.
    """

    table: str
    key: tuple[str, ...]
    held: Mapping[str, Decimal | None]
    expected: Mapping[str, Decimal | None]
    missing: bool = False


def sum_columns(catalogue: Catalogue, table: str) -> tuple[str, ...]:
    """The columns of ``table`` under ``add``, in order; empty if there are none."""
    groups = {
        column
        for kind in catalogue.types.values()
        for state in kind.states
        for group, _ in state.groups
        if state.table == table and group.kind == "add"
        for column in group.columns
    }
    return tuple(sorted(groups))


def summed_for(catalogue: Catalogue, table: str) -> set[str]:
    """The histories that `expected_sums` reads."""
    return {
        kind.history.relation
        for kind in catalogue.types.values()
        if kind.history and any(one.table == table and _adds(one) for one in kind.states)
    }


async def expected_sums(
    connection: Connection,
    catalogue: Catalogue,
    table: str,
    keys: Collection[tuple[str, ...]] | None = None,
    read: Callable[[int], None] = lambda _: None,
) -> list[WrongSum]:
    """The rows of ``table`` whose sums are wrong, sorted by key; of ``keys`` only, if given.
    ``read`` is told of how many events more were read.

    One snapshot is compared, so nothing that is written meanwhile is taken for a difference. The
    connection must be prepared as the pool's are, and in no transaction. Raises SinkUnavailable,
    also if a part of a history has been detached: the sums of what was in it are right, and nobody
    could tell any more.
    """
    columns = sum_columns(catalogue, table)
    if not columns:
        return []
    with translated():
        async with connection.transaction(isolation="repeatable_read"):
            await connection.execute("SET LOCAL statement_timeout = 0")
            await _stage(connection, catalogue, table, columns, read)
            found = await connection.fetch(
                _compared(table, catalogue.keys[table], columns, narrowed=keys is not None),
                *([] if keys is None else map(list, zip(*keys, strict=True))),
                timeout=_HOURS,
            )
    width = len(catalogue.keys[table])
    return [_wrong(table, columns, width, row) for row in found]


async def mend_sums(
    connection: Connection,
    catalogue: Catalogue,
    table: str,
    keys: Collection[tuple[str, ...]] | None = None,
) -> list[WrongSum]:
    """Set right what `expected_sums` finds, and return it. Rows that are missing stay so.

    What is wrong is added or taken away, so events that come meanwhile are counted as ever. One at
    a time, in all processes. Raises SinkUnavailable.
    """
    async with _alone(connection, table):
        found = await expected_sums(connection, catalogue, table, keys)
        there = [wrong for wrong in found if not wrong.missing]
        with translated():
            for first in range(0, len(there), _CHUNK):
                await _mend(connection, catalogue, table, there[first : first + _CHUNK])
    return found


async def mend_all(
    pool: asyncpg.Pool, catalogue: Catalogue, tables: Sequence[str]
) -> dict[str, int]:
    """Set right the sums of those tables that have any. Returns how many rows were wrong in each.
    Raises SinkUnavailable.
    """
    mended: dict[str, int] = {}
    for table in tables:
        if sum_columns(catalogue, table):
            async with borrowed(pool) as connection:
                mended[table] = len(await mend_sums(connection, catalogue, table))
    return mended


@asynccontextmanager
async def _alone(connection: Connection, table: str) -> AsyncIterator[None]:
    with translated():
        if not await connection.fetchval(_TURN):
            raise SinkUnavailable(f"sums of {table}: another process is mending sums; wait for it")
    try:
        yield
    finally:
        with translated():
            await connection.execute(_OVER)


async def _stage(
    connection: Connection,
    catalogue: Catalogue,
    table: str,
    columns: Sequence[str],
    read: Callable[[int], None],
) -> None:
    """What the events of each chunk add up to, in a temporary table of this transaction."""
    key = catalogue.keys[table]
    named = ", ".join([*map(quoted, key), *(f"{quoted(name)}::numeric" for name in columns)])
    await connection.execute(
        f"CREATE TEMP TABLE {_STAGE} ON COMMIT DROP AS SELECT {named} FROM {quoted(table)} LIMIT 0"
    )
    for kind in catalogue.types.values():
        states = [one for one in kind.states if one.table == table and _adds(one)]
        if states:
            await _whole(connection, kind)
            past = Past(kind, _needed(kind, table))
            async for events in past.chunks(connection, _CHUNK):
                for state in states:
                    await _add(connection, state, columns, events)
                read(len(events))


async def _whole(connection: Connection, kind: EventType) -> None:
    """Raise SinkUnavailable if rows of the history are no longer online."""
    assert kind.history is not None  # noqa: S101  (the catalogue refuses `add` without one)
    relation = kind.history.relation
    if (detached := await connection.fetchval(_DETACHED, relation)) is not None:
        raise SinkUnavailable(
            f"sums of {kind.name} cannot be computed again: {detached} is no longer a part of "
            f"{relation}, and its events count too; `penstock partitions import` brings it back"
        )


def _adds(state: State) -> bool:
    return any(group.kind == "add" for group, _ in state.groups)


def _needed(kind: EventType, table: str) -> set[str]:
    """The fields that keys and sums of ``table`` are made of."""
    names: set[str] = set()
    for upsert in kind.spec.states:
        if upsert.table == table and upsert.add:
            names |= fields_of(kind.spec, upsert, (*upsert.key, *upsert.add))
    return names


async def _add(
    connection: Connection, state: State, columns: Sequence[str], events: Sequence[Event]
) -> None:
    changes, records = changes_of(state, events), list[tuple[Any, ...]]()
    for group, cells in state.groups:
        if group.kind == "add":
            folded: Folded = {}
            fold(folded, changes, cells, group, distinct=False)
            for key, found in folded.items():
                sums = dict(zip(group.columns, found, strict=True))
                records.append((*key, *map(sums.get, columns)))
    await copy(connection, Rows(_STAGE, (*state.key_columns, *columns), records))


def _compared(table: str, key: Sequence[str], columns: Sequence[str], *, narrowed: bool) -> str:
    keys, names = ", ".join(map(quoted, key)), list(map(quoted, columns))
    joined = " AND ".join(f"t.{name} = s.{name}" for name in map(quoted, key))
    texts = [f"coalesce(t.{name}, s.{name})::text" for name in map(quoted, key)]
    held, expected = [f"t.{name}::numeric" for name in names], [f"s.{name}" for name in names]
    arrays = ", ".join(f"${n}::text[]" for n in range(1, len(key) + 1))
    asked = f"AND ({', '.join(texts)}) IN (SELECT * FROM unnest({arrays})) " if narrowed else ""
    sums = ", ".join(f"sum({name}) AS {name}" for name in names)
    return (
        f"SELECT {', '.join([*texts, *held, *expected])}, t.{quoted(key[0])} IS NULL "
        f"FROM {quoted(table)} AS t FULL JOIN "
        f"(SELECT {keys}, {sums} FROM {_STAGE} GROUP BY {keys}) AS s ON {joined} "
        f"WHERE ({', '.join(held)}) IS DISTINCT FROM ({', '.join(expected)}) {asked}"
        f"ORDER BY {', '.join(str(n) for n in range(1, len(key) + 1))}"
    )


def _wrong(table: str, columns: Sequence[str], width: int, row: asyncpg.Record) -> WrongSum:
    key, cells, missing = tuple(row[:width]), row[width:-1], row[-1]
    held = dict(zip(columns, cells[: len(columns)], strict=True))
    expected = dict(zip(columns, cells[len(columns) :], strict=True))
    return WrongSum(table, key, held, expected, missing)


async def _mend(
    connection: Connection, catalogue: Catalogue, table: str, wrong: Sequence[WrongSum]
) -> None:
    key, columns = catalogue.keys[table], sum_columns(catalogue, table)
    types = {name: kind for _, name, kind in await connection.fetch(statements.COLUMNS, [table])}
    arrays: list[list[Any]] = [list(part) for part in zip(*[one.key for one in wrong], strict=True)]
    for column in columns:
        arrays.append([one.held[column] for one in wrong])
        arrays.append([one.expected[column] for one in wrong])
    await connection.execute(_mending(table, key, columns, types), *arrays, timeout=_HOURS)


def _mending(
    table: str, key: Sequence[str], columns: Sequence[str], types: statements.ColumnTypes
) -> str:
    """Rows are locked in the order of their keys, as batches do."""
    count = len(key)
    given = [f"k{n}" for n in range(count)]
    given += [f"{part}{n}" for n in range(len(columns)) for part in ("held", "right")]
    arrays = [f"${n}::{'text' if n <= count else 'numeric'}[]" for n in range(1, len(given) + 1)]
    keys = ", ".join(f"t.{quoted(name)}" for name in key)
    same = " AND ".join(f"t.{quoted(name)} = g.k{n}::{types[name]}" for n, name in enumerate(key))
    changes = ", ".join(
        f"{quoted(name)} = CASE WHEN g.right{n} IS NULL AND t.{quoted(name)} IS NOT DISTINCT FROM "
        f"g.held{n} THEN NULL ELSE coalesce(t.{quoted(name)}, 0) + coalesce(g.right{n}, 0) "
        f"- coalesce(g.held{n}, 0) END"
        for n, name in enumerate(columns)
    )
    return (
        f"WITH g AS (SELECT * FROM unnest({', '.join(arrays)}) AS g({', '.join(given)})), "
        f"locked AS MATERIALIZED (SELECT count(*) FROM (SELECT FROM {quoted(table)} AS t, g "
        f"WHERE {same} ORDER BY {keys} FOR UPDATE OF t) AS l) "
        f"UPDATE {quoted(table)} AS t SET {changes} FROM g, locked WHERE {same}"
    )
