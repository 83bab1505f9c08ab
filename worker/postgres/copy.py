"""Optimistic COPY, which assumes that every row is new.

COPY is by far the cheapest way to store rows, but it fails as a whole if one row exists already. So
it runs after a savepoint, and a duplicate turns it off for the next few batches: duplicates seldom
come alone.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import asyncpg

from penstock.worker.postgres.transaction import Connection, undo

FEW_ROWS = 100
"""Up to this many rows are sent by one INSERT, as round trips would cost more than the rows."""

_CAREFUL_BATCHES = 8
"""How many batches do without COPY after the last duplicate."""


class Rows(NamedTuple):
    """Rows for ``table``, sorted by its key so that two batches never deadlock."""

    table: str
    columns: Sequence[str]
    records: Iterable[Sequence[Any]]


class OptimisticCopy:
    """Remembers which tables had duplicates recently."""

    def __init__(self) -> None:
        self._careful: dict[str, int] = {}

    def worth_trying(self, tables: Collection[str]) -> bool:
        """False for some batches after a duplicate in one of ``tables``."""
        return not any(self._careful.get(table) for table in tables)

    async def write(self, connection: Connection, parts: Sequence[Rows]) -> bool:
        """COPY the rows. Returns whether all were new; if not, rolls back to the savepoint."""
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
        """Record a batch for ``table`` that was written without COPY, or whose COPY failed."""
        left = max(0, self._careful.get(table, 0) - 1)
        self._careful[table] = _CAREFUL_BATCHES if duplicate else left


async def copy(connection: Connection, rows: Rows) -> None:
    """Binary COPY. A temporary table has no schema in its name."""
    schema, _, name = rows.table.rpartition(".")
    await connection.copy_records_to_table(
        name, schema_name=schema or None, columns=rows.columns, records=rows.records
    )
