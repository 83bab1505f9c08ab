"""Optimistic COPY: as if every row were new.

COPY is by far the cheapest way in, and it fails as a whole if one row is there already. So it is
tried after a savepoint, and after a duplicate not again for some batches: rows that come twice
seldom come alone.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import asyncpg

from penstock.worker.postgres.transaction import Connection, undo

FEW_ROWS = 100
"""So few rows are better sent by one INSERT: round trips would cost more than the rows."""

_CAREFUL_BATCHES = 8
"""How many batches take the other way after the last duplicate."""


class Rows(NamedTuple):
    """Rows on their way into ``table``, sorted by its key so that two batches never deadlock."""

    table: str
    columns: Sequence[str]
    records: Iterable[Sequence[Any]]


class OptimisticCopy:
    """Knows which tables have just been seen to get rows again."""

    def __init__(self) -> None:
        self._careful: dict[str, int] = {}

    def worth_trying(self, tables: Collection[str]) -> bool:
        """False for a while after a duplicate in one of ``tables``."""
        return not any(self._careful.get(table) for table in tables)

    async def write(self, connection: Connection, parts: Sequence[Rows]) -> bool:
        """Whether all rows were new; if not, nothing is written after the last savepoint."""
        try:
            for part in parts:
                await copy(connection, part)
        except asyncpg.UniqueViolationError:
            await undo(connection)
            for part in parts:
                self.seen(part.table, duplicate=True)
            return False
        return True

    def seen(self, table: str, *, duplicate: bool) -> None:
        """Take note of a batch that went into ``table`` the other way."""
        left = max(0, self._careful.get(table, 0) - 1)
        self._careful[table] = _CAREFUL_BATCHES if duplicate else left


async def copy(connection: Connection, rows: Rows) -> None:
    """Binary COPY. The table may be a temporary one, without a schema."""
    schema, _, name = rows.table.rpartition(".")
    await connection.copy_records_to_table(
        name, schema_name=schema or None, columns=rows.columns, records=rows.records
    )
