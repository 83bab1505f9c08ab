"""State rows against the history of the events that made them, in one snapshot."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any

import asyncpg
import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.cells import Cells
from penstock.schemas.event import Event
from penstock.schemas.event_type import EventType, Group, State
from penstock.schemas.fields import field_types, value_kind
from penstock.schemas.mapping import Field, Upsert
from penstock.schemas.recall import Recall, fields_of, recall
from penstock.schemas.rows import RowCompiler
from penstock.worker.pipeline.folds import Changes, Folded, fold
from penstock.worker.pipeline.plan import changes_of
from penstock.worker.postgres import statements
from penstock.worker.postgres.contradictions import contradicted
from penstock.worker.postgres.past import Past
from penstock.worker.postgres.transaction import Connection

_CHUNK = 5_000
_OLDEST = """
SELECT min(p.lower_bound) FROM partitions.partition AS p
WHERE p.schema_name || '.' || p.table_name = $1
"""
_POLICY = """
SELECT p.column_name FROM partitions.policy AS p WHERE p.schema_name || '.' || p.table_name = $1
"""


class Contradiction(msgspec.Struct, frozen=True):
    """A row that does not say what a stored event said; ``columns`` are None if it is missing."""

    key: str
    columns: tuple[str, ...] | None


async def contradictions(
    connection: Connection,
    catalogue: Catalogue,
    table: str,
    since: datetime | None,
    read: Callable[[int], None] = lambda _: None,
) -> AsyncIterator[Contradiction]:
    """The rows of ``table`` that are not as far as the events of their histories, one by one, maybe
    more than once. Of events since ``since``, if given. Within a transaction of the caller's, whose
    snapshot is compared. ``read`` is told of how many events more were read. Raises the driver's
    errors.
    """
    found = await connection.fetch(statements.COLUMNS, [table])
    types = {name: kind for _, name, kind in found}
    oldest = await _oldest(connection, table)
    for saying in _sayings(catalogue, table):
        query = contradicted(table, saying.state.key_columns, saying.kept, types)
        async for events in saying.past(since).chunks(connection, _CHUNK):
            rows = saying.rows(events, oldest)
            arrays = list(zip(*rows, strict=True))
            for row in await connection.fetch(query, *arrays) if rows else ():
                yield saying.contradiction(row)
            read(len(events))


def read_for(catalogue: Catalogue, table: str) -> set[str]:
    """The histories whose events `contradictions` reads."""
    return {saying.history for saying in _sayings(catalogue, table)}


async def _oldest(connection: Connection, table: str) -> tuple[str, datetime] | None:
    """The partition key of a table whose old rows go, and the time before which they are gone."""
    column = await connection.fetchval(_POLICY, table)
    if column is None:
        return None
    oldest = await connection.fetchval(_OLDEST, table)
    return (column, oldest) if oldest is not None else None


class _Saying:
    """What one type of event says about the rows of one table, as far as its history keeps it."""

    def __init__(self, kind: EventType, upsert: Upsert, state: State, kept: Recall) -> None:
        self.state = state
        self._kind = kind
        self._upsert = upsert
        self._compiler = RowCompiler(kind.name, kind.spec.struct, kind.spec.key)
        columns = {group: _kept(kind, upsert, group, kept) for group, _ in state.groups}
        self.kept: Mapping[Group, Sequence[str]] = {
            group: names
            for group, names in columns.items()
            if group.kind != "add" and (names or group.guard)
        }
        self._cells = {group: self._cells_of(names) for group, names in self.kept.items()}

    def _cells_of(self, names: Sequence[str]) -> Cells:
        return self._compiler.state_cells(self._upsert, names, optional=True)

    @property
    def history(self) -> str:
        """The relation that has the events."""
        assert self._kind.history is not None  # noqa: S101  (else there were nothing to recall)
        return self._kind.history.relation

    def past(self, since: datetime | None) -> "_Legible":
        """The events, with the fields that are needed here."""
        columns = [*self._upsert.key, *chain.from_iterable(self.kept.values())]
        names = fields_of(self._kind.spec, self._upsert, columns)
        return _Legible(self._kind, names, since)

    def rows(
        self, events: Sequence[Event], oldest: tuple[str, datetime] | None
    ) -> list[tuple[Any, ...]]:
        """What the events say together, as `contradicted` takes it."""
        changes = changes_of(self.state, events)
        folded = [self._folded(changes, group) for group in self.kept]
        keys = sorted(set(changes.keys))
        if oldest is not None and oldest[0] in self.state.key_columns:
            place, moment = self.state.key_columns.index(oldest[0]), oldest[1]
            keys = [key for key in keys if key[place] >= moment]
        return [tuple(chain(key, *(found[key] for found in folded))) for key in keys]

    def _folded(self, changes: Changes, group: Group) -> Folded:
        folded: Folded = {}
        fold(folded, changes, self._cells[group], group, distinct=False)
        return folded

    def contradiction(self, row: asyncpg.Record) -> Contradiction:
        """What a row of the answer says."""
        width = len(self.state.key_columns)
        missing, stub, *wrong = row[width:]
        if missing:
            return Contradiction(_named(row[:width]), None)
        named = [group.columns for group, found in zip(self.kept, wrong, strict=True) if found]
        stubs = [("is_stub",)] if stub else []
        return Contradiction(_named(row[:width]), tuple(chain(*stubs, *named)))


class _Legible(Past):
    """The events of a type, without those that cannot be read any more, or not whole: what is found
    without them is true all the same.
    """

    def __init__(self, kind: EventType, wanted: set[str], since: datetime | None) -> None:
        super().__init__(kind, wanted, since)
        found = recall(kind.spec)
        self._clipped = found is not None and found.limit is not None

    def _statement(self) -> str:
        whole = super()._statement()
        return f"{whole} AND NOT data ? 'omitted'" if self._clipped else whole

    def _events(self, rows: Sequence[asyncpg.Record]) -> Iterator[Event]:
        for row in rows:
            try:
                yield self._event(row)
            except msgspec.ValidationError:  # the type was another one when it was sent
                continue


def _sayings(catalogue: Catalogue, table: str) -> Iterator[_Saying]:
    """By type of event, and by upsert where one has several for the table."""
    kept = {kind.name: recall(kind.spec) for kind in catalogue.types.values()}
    for kind in catalogue.types.values():
        own = kept[kind.name]
        others = [found for name, found in kept.items() if found and name != kind.name]
        if own is None or any(own.mistaken_for(other) for other in others):
            continue
        for upsert, state in zip(kind.spec.states, kind.states, strict=True):
            if upsert.table == table and _legible(kind, upsert, own):
                yield _Saying(kind, upsert, state, own)


def _legible(kind: EventType, upsert: Upsert, own: Recall) -> bool:
    """Whether the history tells which rows the events are about."""
    listed = upsert.each is None or own.whole or upsert.each in own.fields
    return listed and all(_keeps(kind, upsert, column, own) for column in upsert.key)


def _kept(kind: EventType, upsert: Upsert, group: Group, own: Recall) -> tuple[str, ...]:
    return tuple(name for name in group.columns if _keeps(kind, upsert, name, own))


def _keeps(kind: EventType, upsert: Upsert, column: str, own: Recall) -> bool:
    """Whether the history keeps what the event says about the column."""
    source = upsert.source(column)
    if not isinstance(source, Field) or source.name == kind.spec.key:
        return own.whole or own.keeps(source, kind.spec.key)
    known = field_types(kind.spec.struct)
    if source.name not in known or own.whole:
        return True
    return source.name in own.fields and value_kind(known[source.name]) != "json"


def _named(key: Sequence[str]) -> str:
    return ", ".join(key)
