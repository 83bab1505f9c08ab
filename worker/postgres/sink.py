"""The PostgreSQL sink: one transaction per batch.

The state changes of an event count only in the transaction that stored its history.
"""

import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.identity import kv_key
from penstock.worker.errors import PartitionMissing, RowRejected
from penstock.worker.pipeline.plan import Plan
from penstock.worker.pipeline.ports import DeadLetter, KvRow, KvTouch, Origin, Written
from penstock.worker.postgres import statements
from penstock.worker.postgres.errors import translated
from penstock.worker.postgres.history import HistoryWriter
from penstock.worker.postgres.state import StateWriter
from penstock.worker.postgres.transaction import SAVEPOINT, Connection, literal, transaction


class PostgresSink:
    """Writes plans. ``Unavailable`` means try again; `RowRejected` that a row is at fault."""

    def __init__(self, pool: asyncpg.Pool, catalogue: Catalogue, *, worker_id: str) -> None:
        self._pool = pool
        self._tables = catalogue.tables
        self._worker_id = worker_id
        self._types: dict[str, dict[str, str]] = {}
        self._policies: dict[str, str] = {}
        self._history = HistoryWriter(self._types)
        self._state = StateWriter(self._types, catalogue)

    async def prepare(self) -> Mapping[str, timedelta | None]:
        """Learn the tables' columns and partitions. Returns how long each table keeps rows."""
        with translated():
            columns = await self._pool.fetch(statements.COLUMNS, self._tables)
            policies = await self._pool.fetch(statements.POLICIES)
        for relation, name, kind in columns:
            self._types.setdefault(relation, {})[name] = kind
        self._policies = {relation: column for relation, column, _ in policies}
        return {relation: retention for relation, _, retention in policies}

    async def ping(self) -> None:
        """Raise SinkUnavailable unless PostgreSQL answers within two seconds."""
        with translated():
            async with self._pool.acquire(timeout=2) as connection:
                await connection.execute("SELECT 1", timeout=2)

    async def write(self, plan: Plan, letters: Sequence[DeadLetter], origin: Origin) -> Written:
        """Commit one batch. A period without a partition gets one, and the batch is tried again."""
        begun = time.perf_counter()
        try:
            new = await self._transaction(plan, letters, origin)
        except PartitionMissing:
            await self._make_partitions(plan)
            try:
                new = await self._transaction(plan, letters, origin)
            except PartitionMissing as error:
                raise RowRejected("23514", f"no partition can be made: {error}") from error
        return Written(
            new=new,
            duplicate=len(plan.events) - new,
            dead_letters=len(letters),
            seconds=time.perf_counter() - begun,
        )

    async def _transaction(self, plan: Plan, letters: Sequence[DeadLetter], origin: Origin) -> int:
        hopeful = self._history.hopes(plan.history)
        opening = (*self._position(origin), *((SAVEPOINT,) if hopeful else ()))
        with translated():
            async with (
                self._pool.acquire(timeout=10) as connection,
                transaction(connection, *opening),
            ):
                new = await self._history.write(connection, plan.history, hopeful=hopeful)
                fresh = plan if new is None else plan.only(new)
                parents = await self._state.write(connection, fresh)
                await self._write_letters(connection, letters, origin)
        self._state.remember(parents)
        return len(plan.events) if new is None else _count_new(plan, new)

    async def _write_letters(
        self, connection: Connection, letters: Sequence[DeadLetter], origin: Origin
    ) -> None:
        if letters:
            cells = zip(*(_letter_cells(letter) for letter in letters), strict=True)
            await connection.execute(
                statements.DEAD_LETTERS,
                origin.transport,
                origin.stream,
                origin.epoch,
                self._worker_id,
                *cells,
            )

    def _position(self, origin: Origin) -> Sequence[str]:
        if not origin.sequences:
            return ()
        ranges = multirange(origin.sequences)
        cells = (origin.transport, origin.stream, origin.epoch, ranges, self._worker_id)
        return (statements.position(map(literal, cells)),)

    async def _make_partitions(self, plan: Plan) -> None:
        """Create what the batch needs, outside its transaction, for others to use at once."""
        with translated():
            for relation, column in self._policies.items():
                schema, name = relation.split(".")
                for moment in _moments(plan, relation, column):
                    await self._pool.execute(
                        "SELECT partitions.ensure_for($1, $2, $3)", schema, name, moment
                    )

    async def read(self, touched: Mapping[KvTouch, Sequence[tuple[Any, ...]]]) -> list[KvRow]:
        """The committed rows that a batch touched, one per KV key."""
        found: dict[str, KvRow] = {}
        with translated():
            async with self._pool.acquire(timeout=10) as connection:
                for rule, keys in touched.items():
                    query = statements.hydrated(rule.view, rule.columns)
                    columns = [[str(cell) for cell in cells] for cells in zip(*keys, strict=True)]
                    for row in await connection.fetch(query, *columns):
                        kv = kv_row(*row)
                        found[kv.key] = kv
        return list(found.values())


def _count_new(plan: Plan, new: set[tuple[str, datetime]]) -> int:
    return sum(1 for e in plan.events if e.spec.history is None or (e.id, e.time) in new)


def kv_row(
    agent_id: str,
    state_key: str | None,
    is_status: bool,  # noqa: FBT001  (a row of a view, in its order)
    live: bool,  # noqa: FBT001
    guard: bytes,
    value: str,
) -> KvRow:
    """A row of a KV view as the bucket should hold it."""
    key = kv_key(agent_id, None if is_status else state_key)
    return KvRow(key=key, guard=msgspec.json.decode(guard), value=value.encode() if live else None)


def multirange(sequences: Sequence[int]) -> str:
    """Sorted sequences as the text of an int8multirange: ``{[1,4),[7,8)}``."""
    first, last = sequences[0], sequences[-1]
    if last - first + 1 == len(sequences):
        return f"{{[{first},{last + 1})}}"
    parts: list[str] = []
    previous = first
    for current in (*sequences[1:], last + 2):
        if current > previous + 1:
            parts.append(f"[{first},{previous + 1})")
            first = current
        previous = current
    return f"{{{','.join(parts)}}}"


def _letter_cells(letter: DeadLetter) -> tuple[Any, ...]:
    message = letter.message
    return (
        message.position,
        _storable(message.subject),
        _storable(json.dumps(dict(message.headers), ensure_ascii=False)).replace(
            "\\u0000", "\\ufffd"
        ),
        message.body,
        letter.reason,
        _storable(letter.error),
        letter.event_id,
        message.deliveries,
    )


def _storable(text: str) -> str:
    """Text that PostgreSQL takes: what it cannot hold is shown as the replacement character."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _moments(plan: Plan, relation: str, column: str) -> list[datetime]:
    """One moment of every UTC day that the batch writes to ``relation``."""
    table, _, domain = relation.partition(".log_")
    times = plan.times(f"{table}.log" if domain else relation, column)
    return sorted({moment.date(): moment for moment in times}.values())
