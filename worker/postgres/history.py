"""Storing history rows once, in the way that costs least for what the batch is.

Many rows go in by COPY as long as they are new. While duplicates keep coming the staged way is
taken: COPY to a temporary table, INSERT ... ON CONFLICT DO NOTHING. Few rows go in by one INSERT.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from penstock.worker.pipeline.plan import HistoryRows
from penstock.worker.postgres import statements
from penstock.worker.postgres.copy import FEW_ROWS, HopefulCopy, Rows, copy
from penstock.worker.postgres.transaction import Connection

Stored = set[tuple[str, datetime]]
"""Ids and times of events."""


class HistoryWriter:
    """Writes history rows within a transaction. ``types`` maps a table to its columns' types."""

    def __init__(self, types: Mapping[str, statements.ColumnTypes]) -> None:
        self._types = types
        self._copying = HopefulCopy()
        self._inserts: dict[str, str] = {}

    def hopes(self, parts: Sequence[HistoryRows]) -> bool:
        """Whether COPY is worth trying; then `write` wants a savepoint to return to."""
        many = sum([len(part.records) for part in parts]) > FEW_ROWS
        return many and self._copying.worth_trying([part.rows.table for part in parts])

    async def write(
        self, connection: Connection, parts: Sequence[HistoryRows], *, hopeful: bool
    ) -> Stored | None:
        """Store what is new. Returns the new events' ids and times, or None if all are."""
        rows = [Rows(part.rows.table, part.rows.columns, part.records) for part in parts]
        if hopeful and await self._copying.write(connection, rows):
            return None
        count = sum([len(part.records) for part in parts])
        way = self._merge if count > FEW_ROWS else self._insert
        new: Stored = set()
        for part in parts:
            new |= await way(connection, part)
        return None if len(new) == count else new

    async def _merge(self, connection: Connection, part: HistoryRows) -> Stored:
        table, columns = part.rows.table, part.rows.columns
        await connection.execute(statements.create_stage(table, columns, self._types[table]))
        await copy(connection, Rows(statements.stage_name(table), columns, part.records))
        found = await connection.fetch(statements.merge_stage(table, columns))
        self._copying.seen(table, duplicate=len(found) < len(part.records))
        return {(event_id, occurred_at) for event_id, occurred_at in found}

    async def _insert(self, connection: Connection, part: HistoryRows) -> Stored:
        table, columns = part.rows.table, part.rows.columns
        if table not in self._inserts:
            self._inserts[table] = statements.insert_rows(table, columns, self._types[table])
        found = await connection.fetch(self._inserts[table], *zip(*part.records, strict=True))
        return {(event_id, occurred_at) for event_id, occurred_at in found}
