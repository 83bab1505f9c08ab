"""SQL for rows that one event makes and none changes: see `Upsert.made`."""

from collections.abc import Sequence

from penstock.worker.postgres.statements import ColumnTypes, quoted, unnest


def insert(table: str, key: Sequence[str], columns: Sequence[str], types: ColumnTypes) -> str:
    """Insert those that are not there. The worker needs no right to change one."""
    names = ", ".join(map(quoted, columns))
    return (
        f"INSERT INTO {quoted(table)} ({names}) SELECT * FROM {unnest(columns, types)} "
        f"ON CONFLICT ({', '.join(map(quoted, key))}) DO NOTHING"
    )
