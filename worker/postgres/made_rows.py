"""SQL for rows that one event makes and none changes: see `Upsert.made`."""

from collections.abc import Sequence

from penstock.worker.postgres.statements import ColumnTypes, quoted, row, unnest


def insert(
    table: str, key: Sequence[str], columns: Sequence[str], types: ColumnTypes, *, restate: bool
) -> str:
    """Insert those that are not there; with ``restate``, set others right that do not say what
    their event said.
    """
    names = ", ".join(map(quoted, columns))
    return (
        f"INSERT INTO {quoted(table)} AS t ({names}) SELECT * FROM {unnest(columns, types)} "
        f"ON CONFLICT ({', '.join(map(quoted, key))}) "
        f"DO {_restated(key, columns) if restate else 'NOTHING'}"
    )


def _restated(key: Sequence[str], columns: Sequence[str]) -> str:
    said = [name for name in columns if name not in key]
    changes = ", ".join(f"{quoted(name)} = EXCLUDED.{quoted(name)}" for name in said)
    return f"UPDATE SET {changes} WHERE {row('t', said)} IS DISTINCT FROM {row('EXCLUDED', said)}"
