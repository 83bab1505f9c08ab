"""Storing history rows once, in the way that costs least for what the batch is.

Many rows go in by COPY, which is fastest and fails as a whole if one event is there already. So it
is tried under a savepoint, and after a duplicate the staged way is taken (COPY to a temporary
table, INSERT ... ON CONFLICT DO NOTHING) for as long as duplicates keep coming. Few rows go in by
one INSERT: the round trips of the other ways would cost more than the rows.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from worker.plan import HistoryRows
from worker.sinks import statements

Connection = PoolConnectionProxy
Stored = set[tuple[str, datetime]]
"""Ids and times of events."""

_STAGED_BATCHES = 8
"""How many batches take the staged way after the last duplicate."""

_FEW_ROWS = 100


class HistoryWriter:
    """Writes history rows within a transaction. ``types`` maps a table to its columns' types."""

    def __init__(self, types: Mapping[str, statements.ColumnTypes]) -> None:
        self._types = types
        self._staged: dict[str, int] = {}
        self._inserts: dict[str, str] = {}

    async def write(self, connection: Connection, parts: Sequence[HistoryRows]) -> Stored | None:
        """Store what is new. Returns the new events' ids and times, or None if all are."""
        rows = sum([len(part.records) for part in parts])
        if rows <= _FEW_ROWS:
            way = self._insert
        elif any(self._staged.get(part.rows.table) for part in parts):
            way = self._merge
        else:
            if await self._copy(connection, parts):
                return None
            way = self._merge
        new: Stored = set()
        for part in parts:
            new |= await way(connection, part)
        return None if len(new) == rows else new

    async def _copy(self, connection: Connection, parts: Sequence[HistoryRows]) -> bool:
        """Whether all rows were new; if not, nothing has been written."""
        try:
            async with connection.transaction():
                for part in parts:
                    await _copy(connection, part.rows.table, part)
        except asyncpg.UniqueViolationError:
            self._staged.update(dict.fromkeys([p.rows.table for p in parts], _STAGED_BATCHES))
            return False
        return True

    async def _merge(self, connection: Connection, part: HistoryRows) -> Stored:
        table, columns = part.rows.table, part.rows.columns
        await connection.execute(statements.create_stage(table, columns, self._types[table]))
        await _copy(connection, statements.stage_name(table), part)
        found = await connection.fetch(statements.merge_stage(table, columns))
        complete = len(found) == len(part.records)
        left = max(0, self._staged.get(table, 0) - 1)
        self._staged[table] = left if complete else _STAGED_BATCHES
        return {(event_id, occurred_at) for event_id, occurred_at in found}

    async def _insert(self, connection: Connection, part: HistoryRows) -> Stored:
        table, columns = part.rows.table, part.rows.columns
        if table not in self._inserts:
            self._inserts[table] = statements.insert_rows(table, columns, self._types[table])
        found = await connection.fetch(self._inserts[table], *zip(*part.records, strict=True))
        return {(event_id, occurred_at) for event_id, occurred_at in found}


async def _copy(connection: Connection, table: str, part: HistoryRows) -> None:
    schema, _, name = table.rpartition(".")
    await connection.copy_records_to_table(
        name, schema_name=schema or None, columns=part.rows.columns, records=part.records
    )
