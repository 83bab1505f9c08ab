"""Events that are known already against what is stored of them, column by column."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Event
from penstock.schemas.event_type import Group
from penstock.worker.pipeline.plan import HistoryRows, by_type, fold_states
from penstock.worker.postgres import statements
from penstock.worker.postgres.statements import ColumnTypes, quoted
from penstock.worker.postgres.tables import read_tables
from penstock.worker.postgres.transaction import Connection

Id = tuple[str, datetime]
"""Id and time of an event."""

_NTH = '"#"'
_WITHOUT_EQUALITY = {"json", "xml", "point", "polygon"}


class Known(msgspec.Struct):
    """Events that are stored already, by id and time: those ``stored`` as they are, and those that
    are ``differing``, stored with the same id and time and another content.
    """

    stored: set[Id] = msgspec.field(default_factory=set)
    differing: set[Id] = msgspec.field(default_factory=set)

    def add(self, event: Id, *, differs: bool) -> None:
        """Note one. What differs in one table differs."""
        (self.differing if differs else self.stored).add(event)
        self.stored -= self.differing


class Comparison:
    """Compares with the tables of a catalogue. `prepare` it first."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._types: dict[str, dict[str, str]] = {}

    async def prepare(self, pool: asyncpg.Pool) -> None:
        """Learn the columns, whose modifiers cut and round as they did before. Raises the driver's
        errors.
        """
        for name, table in (await read_tables(pool, self._catalogue.tables)).items():
            self._types[name] = {name: column.type for name, column in table.columns.items()}

    async def known(
        self, connection: Connection, events: Sequence[Event], history: Sequence[HistoryRows]
    ) -> Known:
        """Which of the events are stored, of those with a history by ``history``, their rows. An
        event without one counts as stored if it would change no row. Raises the driver's errors.
        """
        found = Known()
        for rows in history:
            if rows.records:
                await self._of_history(connection, rows, found)
        await self._of_states(connection, [e for e in events if e.kind.history is None], found)
        return found

    async def _of_history(self, connection: Connection, rows: HistoryRows, found: Known) -> None:
        statement = _stored(rows, self._types[rows.table])
        places = [rows.columns.index(name) for name in ("event_id", "occurred_at")]
        for nth, differs in await connection.fetch(statement, *zip(*rows.records, strict=True)):
            record = rows.records[nth - 1]
            found.add((record[places[0]], record[places[1]]), differs=differs)

    async def _of_states(
        self, connection: Connection, events: Sequence[Event], found: Known
    ) -> None:
        """Folded one by one, as each has to be judged by itself."""
        shapes: dict[tuple[str, tuple[Group, ...]], list[tuple[Event, tuple[Any, ...]]]] = {}
        for e in events:
            for state in fold_states(by_type([e])):
                same = shapes.setdefault((state.table, state.groups), [])
                same.extend((e, row) for row in state.rows)
        changing: set[Id] = set()
        for (table, groups), pairs in shapes.items():
            statement = _reflected(table, self._catalogue.keys[table], groups, self._types[table])
            cells = zip(*[row for _, row in pairs], strict=True)
            for nth, changes, differs in await connection.fetch(statement, *cells):
                e = pairs[nth - 1][0]
                if changes:
                    changing.add((e.id, e.time))
                else:
                    found.add((e.id, e.time), differs=differs)
        found.stored -= changing


def _stored(rows: HistoryRows, types: ColumnTypes) -> str:
    """Which of the given rows are there, and whether one differs."""
    key, others = rows.key, [name for name in rows.columns if name not in rows.key]
    same = " AND ".join(f"t.{quoted(name)} = g.{quoted(name)}" for name in key)
    given = [f"g.{quoted(name)}::{types[name]}" for name in others]
    held = [f"t.{quoted(name)}" for name in others]
    return (
        f"SELECT g.{_NTH}, {_distinct(held, given, [types[name] for name in others])} "
        f"FROM {_given('g', rows.columns, types)} "
        f"JOIN {quoted(rows.table)} AS t ON {same}"
    )


def _distinct(held: Sequence[str], given: Sequence[str], types: Sequence[str]) -> str:
    pairs = [
        f"{a}::text IS DISTINCT FROM {b}::text"
        if kind in _WITHOUT_EQUALITY
        else f"{a} IS DISTINCT FROM {b}"
        for a, b, kind in zip(held, given, types, strict=True)
    ]
    return f"({' OR '.join(pairs) or 'false'})"


def _given(alias: str, columns: Sequence[str], types: ColumnTypes) -> str:
    plain = {name: _plain(types[name]) for name in columns}
    names = ", ".join([*map(quoted, columns), _NTH])
    return f"{statements.unnest(columns, plain)} WITH ORDINALITY AS {alias}({names})"


def _plain(kind: str) -> str:
    """A type without its modifier, as rows are sent."""
    base, paren, rest = kind.partition("(")
    return base + rest.partition(")")[2] if paren else kind


def _reflected(table: str, key: Sequence[str], groups: Iterable[Group], types: ColumnTypes) -> str:
    """Of rows of single events: which would change the stored row, and which are what the row says
    of them, differently.
    """
    own = list(groups)
    columns = [*key, *(name for group in own for name in statements.group_columns(group))]
    plain: Mapping[str, str] = {name: _plain(kind) for name, kind in types.items()}
    same = " AND ".join(f"t.{quoted(name)} = EXCLUDED.{quoted(name)}" for name in key)
    changes = " OR ".join(f"({statements.differs(group, plain)})" for group in own)
    differs = " OR ".join(statements.contradicts(group) for group in own if group.guard)
    return (
        f"SELECT EXCLUDED.{_NTH}, t.{quoted(key[0])} IS NULL OR {changes}, {differs or 'false'} "
        f"FROM {_given('EXCLUDED', columns, types)} LEFT JOIN {quoted(table)} AS t ON {same}"
    )
