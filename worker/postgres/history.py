"""Storing history rows once, in the way that costs least for what the batch is.

Many rows go in by COPY as long as they are new. While duplicates keep coming the staged way is
taken: COPY to a temporary table, INSERT ... ON CONFLICT DO NOTHING. Few rows go in by one INSERT.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.plan import HistoryRows, Plan
from penstock.worker.postgres import statements
from penstock.worker.postgres.copy import FEW_ROWS, OptimisticCopy, Rows, copy
from penstock.worker.postgres.parts import Part
from penstock.worker.postgres.transaction import SAVEPOINT, Connection

Stored = set[tuple[str, datetime]]
"""Ids and times of events."""


class HistoryWriter:
    """Writes history rows within a transaction. ``types`` maps a table to its columns' types."""

    def __init__(self, types: Mapping[str, statements.ColumnTypes]) -> None:
        self._types = types
        self._copying = OptimisticCopy()
        self._inserts: dict[str, str] = {}

    def part(self, batch: Batch) -> Part:
        """The batch's history, with a savepoint to return to where COPY is worth trying."""
        history = batch.plan.history
        many = sum([len(rows.records) for rows in history]) > FEW_ROWS
        optimistic = many and self._copying.worth_trying([rows.table for rows in history])
        return _HistoryPart(self, history, optimistic=optimistic)

    async def write(
        self, connection: Connection, history: Sequence[HistoryRows], *, optimistic: bool
    ) -> Stored | None:
        """Store what is new. Returns the new events' ids and times, or None if all are."""
        tables = [Rows(found.table, found.columns, found.records) for found in history]
        if optimistic and await self._copying.write(connection, tables):
            return None
        count = sum([len(found.records) for found in history])
        way = self._merge if count > FEW_ROWS else self._insert
        new: Stored = set()
        for found in history:
            new |= await way(connection, found)
        return None if len(new) == count else new

    async def _merge(self, connection: Connection, history: HistoryRows) -> Stored:
        table, columns = history.table, history.columns
        await connection.execute(statements.create_stage(table, columns, self._types[table]))
        await copy(connection, Rows(statements.stage_name(table), columns, history.records))
        found = await connection.fetch(statements.merge_stage(table, history.key, columns))
        self._copying.seen(table, duplicate=len(found) < len(history.records))
        return {(event_id, occurred_at) for event_id, occurred_at in found}

    async def _insert(self, connection: Connection, history: HistoryRows) -> Stored:
        table, columns = history.table, history.columns
        if table not in self._inserts:
            self._inserts[table] = statements.insert_rows(
                table, history.key, columns, self._types[table]
            )
        found = await connection.fetch(self._inserts[table], *zip(*history.records, strict=True))
        return {(event_id, occurred_at) for event_id, occurred_at in found}


class _HistoryPart(Part):
    """Tells what is new, so that only that changes state."""

    def __init__(
        self, writer: HistoryWriter, history: Sequence[HistoryRows], *, optimistic: bool
    ) -> None:
        self.opening = (SAVEPOINT,) if optimistic else ()
        self._writer = writer
        self._history = history
        self._optimistic = optimistic

    async def write(self, connection: Connection, fresh: Plan) -> Plan:
        new = await self._writer.write(connection, self._history, optimistic=self._optimistic)
        return fresh if new is None else fresh.only(new)
