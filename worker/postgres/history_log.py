"""PostgreSQL's own histories as a log: rows become the messages that they came from."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Self

import asyncpg
import msgspec
from msgspec import Raw

from penstock.schemas.event import Event
from penstock.schemas.event_type import EventType, Rows
from penstock.schemas.mapping import Log
from penstock.schemas.recall import losses
from penstock.worker.errors import TopologyError
from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.decode import Decoder
from penstock.worker.pipeline.ports import DeadLetter, Message
from penstock.worker.pipeline.source import Span
from penstock.worker.postgres import statements
from penstock.worker.postgres.errors import translated
from penstock.worker.postgres.pool import borrowed
from penstock.worker.postgres.recalled import TEXT, Recalled, Remembered
from penstock.worker.postgres.statements import quoted
from penstock.worker.postgres.transaction import literal
from penstock.worker.replay.outcome import Cannot
from penstock.worker.replay.pulled import PulledLog
from penstock.worker.replay.standing import Piece, Place

Row = dict[str, Any]

UNKNOWN = "types that the catalogue does not have"
_BEFORE_ALL = ("00000000-0000-0000-0000-000000000000", datetime(1, 1, 1, tzinfo=UTC))
_ABOUT = """
SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint
FROM pg_partition_tree($1::text::regclass) AS p JOIN pg_class AS c ON c.oid = p.relid
WHERE p.isleaf
"""


class HistoryLog(PulledLog):
    """The events of ``types`` out of their histories, table by table, in the order of their ids;
    the times of ``span`` are those of the events.

    ``after`` is a place up to which all are settled; set it before anything is fetched. ``lost``
    counts by type those that the history does not keep whole.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        types: Sequence[EventType],
        *,
        batch_size: int,
        span: Span,
    ) -> None:
        super().__init__("history", "postgres", batch_size=batch_size, order=True)
        self.lost: Counter[str] = Counter()
        self._pool = pool
        self._asked = types
        self._parts = _parts(types)
        self._types: dict[str, dict[str, str]] = {}
        self._span = span
        self.after: Place | None = None
        self._pages = self._read_all()

    async def __aenter__(self) -> Self:
        if not self._parts:
            raise TopologyError("no type of event that is asked for has a history; name a stream")
        with translated():
            for table, column, kind in await self._pool.fetch(statements.COLUMNS, self._states()):
                self._types.setdefault(table, {})[column] = kind
            for rows, _ in self._parts:
                self.total += await self._pool.fetchval(_ABOUT, rows.relation)
        return self

    def _states(self) -> list[str]:
        return [s.table for _, kinds in self._parts for one in kinds for s in one.kind.states]

    async def _read(self) -> Sequence[Message]:
        return await anext(self._pages, None) or ()

    async def _read_all(self) -> AsyncIterator[Sequence[Message]]:
        for rows, kinds in self._parts:
            place: Sequence[Any] = _BEFORE_ALL
            if (after := self.after) is not None and rows.relation <= after[0]:
                if rows.relation < after[0]:
                    continue
                place = (after[1], datetime.fromisoformat(after[2]))
            async for messages in self._of_table(rows, kinds, place):
                yield messages

    async def _of_table(
        self, rows: Rows, kinds: Sequence[Recalled], place: Sequence[Any]
    ) -> AsyncIterator[Sequence[Message]]:
        statement = _page(rows, kinds)
        while True:
            with translated():
                found = await self._pool.fetch(
                    statement, *place, self._batch_size, self._span.since, self._span.until
                )
                if not found:
                    return
                place = (str(found[-1]["event_id"]), found[-1]["occurred_at"])
                messages = await self._messages(rows.relation, kinds, list(map(dict, found)))
            if messages:
                yield messages

    async def _messages(
        self, relation: str, kinds: Sequence[Recalled], rows: Sequence[Row]
    ) -> list[Remembered]:
        messages: list[Remembered] = []
        clipped: dict[str, tuple[Recalled, list[Row]]] = {}
        for row in rows:
            kind = next((one for one in kinds if one.is_of(row)), None)
            if kind is None:
                self.lost[UNKNOWN] += 1
            elif (data := kind.data(row)) is not None:
                messages.append(kind.message(row, data, _place(relation, row)))
            else:
                clipped.setdefault(kind.kind.name, (kind, []))[1].append(row)
        for kind, same in clipped.values():
            messages += await self._whole(relation, kind, same)
        return _piece(sorted(messages, key=lambda message: message.place))

    async def _whole(self, relation: str, kind: Recalled, rows: Sequence[Row]) -> list[Remembered]:
        """Those of clipped events whose data a state says; the others are lost."""
        found: dict[str, bytes] = {}
        if kind.whole_of is not None:
            async with borrowed(self._pool) as connection:
                types = self._types[kind.whole_of.table]
                found = await kind.whole_of.read(connection, rows, types)
        self.lost[kind.kind.name] += len(rows) - len(found)
        return [
            kind.message(row, found[event_id], _place(relation, row))
            for row in rows
            if (event_id := str(row["event_id"])) in found
        ]

    def cannot(self) -> Iterator[Cannot]:
        """What it does not give back."""
        for kind in self._asked:
            for loss in losses(kind.spec):
                count = self.lost[kind.name]
                if count or not loss.some:
                    yield Cannot(kind.name, loss.what, kind.stream, count)
        if count := self.lost[UNKNOWN]:
            yield Cannot("?", UNKNOWN, events=count)

    async def ack(self, batch: Batch) -> None:
        for message in batch.messages:
            if isinstance(message, Remembered) and message.piece is not None:
                message.piece.left.discard(message.place)
        await super().ack(batch)


class HistoryDecoder:
    """Decodes what `HistoryLog` gives. The history of a clipped event is what it was: its checksum
    is of the bytes that were sent.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def decode(self, messages: Sequence[Message]) -> list[Event | DeadLetter]:
        """As `Decoder.decode`."""
        outcomes = self._decoder.decode(messages)
        return [
            msgspec.structs.replace(outcome, raw=Raw(message.stored))
            if isinstance(message, Remembered)
            and message.stored is not None
            and isinstance(outcome, Event)
            else outcome
            for message, outcome in zip(messages, outcomes, strict=True)
        ]


def _piece(messages: list[Remembered]) -> list[Remembered]:
    """The same, which now know what they were read with."""
    if messages:
        piece = Piece([message.place for message in messages])
        for message in messages:
            message.piece = piece
    return messages


def _parts(types: Sequence[EventType]) -> list[tuple[Rows, list[Recalled]]]:
    """Each history, or its part of one domain, with the types in it that can be read back."""
    found: dict[str, tuple[Rows, list[Recalled]]] = {}
    for kind in types:
        one = Recalled.of(kind)
        if one is None or kind.history is None or any(loss.whole for loss in losses(kind.spec)):
            continue
        found.setdefault(kind.history.relation, (kind.history, []))[1].append(one)
    return [found[name] for name in sorted(found)]


def _page(rows: Rows, kinds: Sequence[Recalled]) -> str:
    """A page in the order of the primary key."""
    columns = [f"h.{quoted(name)}" for name in dict.fromkeys(rows.columns)]
    text = next((one.text for one in kinds if one.text), "NULL")
    spec = kinds[0].kind.spec
    domain = spec.history.domain if isinstance(spec.history, Log) else None
    within = f"h.domain = {literal(domain)} AND " if domain else ""
    return (
        f"SELECT {', '.join(columns)}, {text} AS {TEXT} FROM {quoted(rows.table)} AS h "
        f"WHERE {within}(h.event_id, h.occurred_at) > ($1::uuid, $2::timestamptz) "
        "AND h.occurred_at >= coalesce($4::timestamptz, '-infinity') "
        "AND h.occurred_at <= coalesce($5::timestamptz, 'infinity') "
        "ORDER BY h.event_id, h.occurred_at LIMIT $3"
    )


def _place(relation: str, row: Row) -> Place:
    return relation, str(row["event_id"]), row["occurred_at"].isoformat()
