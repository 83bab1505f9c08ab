"""An exported partition back into its table: all of it, or nothing."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import asyncpg

from penstock.worker.archive.manifest import Column, Manifest
from penstock.worker.errors import PenstockError
from penstock.worker.postgres.errors import translated
from penstock.worker.postgres.exporting import Told, columns_of, exact_values, identifier, ignored
from penstock.worker.postgres.life import Life, lives

_ATTACHED = """
INSERT INTO partitions.detached
    (schema_name, table_name, lower_bound, upper_bound, partition_name, attached_until)
VALUES ($1, $2, coalesce($3::text::timestamptz, '-infinity'), $4::text::timestamptz, $5,
        now() + $6::interval)
ON CONFLICT (schema_name, table_name, lower_bound) DO UPDATE
SET attached_until = EXCLUDED.attached_until, archived_as = NULL
"""
_POLICY = "SELECT 1 FROM partitions.policy WHERE (schema_name, table_name) = ($1, $2)"


async def check(connection: asyncpg.Connection, manifest: Manifest) -> None:
    """Raise PenstockError if the rows of ``manifest`` have no place here; nothing is changed."""
    table = f"{manifest.schema}.{manifest.table}"
    with translated():
        known = await connection.fetchval(_POLICY, manifest.schema, manifest.table)
    if not known:
        raise PenstockError(
            f"{table} has no row in partitions.policy here; import into the database that the file "
            "is from, or one with the same migrations"
        )
    for life in await lives(connection):
        if life.of == table and _overlap(life, manifest):
            raise PenstockError(
                f"{life.title} is {life.place} and holds this period already; nothing was imported"
            )
    await _check_columns(connection, manifest)


async def restore(
    connection: asyncpg.Connection,
    manifest: Manifest,
    file: Path,
    keep: timedelta,
    told: Told = ignored,
) -> None:
    """Make the partition of ``manifest`` from ``file`` and attach it. Retention leaves it alone for
    ``keep``. Writers of other partitions go on meanwhile. ``told`` hears how far it is. Raises
    SinkUnavailable, RowRejected, and PenstockError if a row is missing.
    """
    from penstock.worker.archive.parquet import as_text, read_rows  # noqa: PLC0415  (an extra)

    parent, child = (
        f"{identifier(manifest.schema)}.{identifier(name)}"
        for name in (manifest.table, manifest.partition)
    )
    with translated():
        own = {c.name for c in await columns_of(connection, parent, generated=False)}
    columns = [column for column in manifest.columns if column.name in own]
    insert = _insert(child, columns, [as_text(column) for column in columns])
    async with exact_values(connection):
        # Its indexes grow with the rows: on attaching there is nothing to build, which would keep
        # others from making partitions meanwhile.
        await connection.execute(
            f"CREATE TABLE {child} (LIKE {parent} INCLUDING DEFAULTS INCLUDING CONSTRAINTS "
            "INCLUDING GENERATED INCLUDING INDEXES INCLUDING STORAGE INCLUDING COMPRESSION)"
        )
        await connection.execute("SELECT partitions.leave_to_read($1::text::regclass)", child)
        groups, done = read_rows(file, columns), 0
        while rows := await asyncio.to_thread(next, groups, ()):
            await connection.execute(insert, *map(list, zip(*rows, strict=True)))
            told(manifest.file, done := done + len(rows), manifest.rows)
        await _attach(connection, manifest, parent, child, keep)
    with translated():
        await connection.execute(f"ANALYZE {child}")


async def _attach(
    connection: asyncpg.Connection, manifest: Manifest, parent: str, child: str, keep: timedelta
) -> None:
    rows = await connection.fetchval(f"SELECT count(*) FROM {child}")
    if rows != manifest.rows:
        raise PenstockError(f"{manifest.file} gave {rows} rows of {manifest.rows}; nothing stays")
    lower = manifest.lower.isoformat() if manifest.lower else None
    upper = manifest.upper.isoformat()
    since = f"'{lower}'" if lower else "MINVALUE"
    await connection.execute(
        f"ALTER TABLE {parent} ATTACH PARTITION {child} FOR VALUES FROM ({since}) TO ('{upper}')"
    )
    place = manifest.schema, manifest.table, lower, upper, manifest.partition
    await connection.execute(_ATTACHED, *place, keep)


def _insert(table: str, columns: Sequence[Column], texts: Sequence[bool]) -> str:
    """Rows from one array per column; what is text in the file is read as its type."""
    names = ", ".join(identifier(column.name) for column in columns)
    sent = ["text" if text else column.base for column, text in zip(columns, texts, strict=True)]
    arrays = ", ".join(f"${n}::{kind}[]" for n, kind in enumerate(sent, start=1))
    cells = ", ".join(f"c{n}::{column.type}" for n, column in enumerate(columns, start=1))
    given = ", ".join(f"c{n}" for n in range(1, len(columns) + 1))
    return (
        f"INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE "
        f"SELECT {cells} FROM unnest({arrays}) AS given ({given})"
    )


def _overlap(life: Life, manifest: Manifest) -> bool:
    begins_before = life.lower is None or life.lower < manifest.upper
    ends_after = life.upper is None or manifest.lower is None or life.upper > manifest.lower
    return begins_before and ends_after


async def _check_columns(connection: asyncpg.Connection, manifest: Manifest) -> None:
    parent = f"{identifier(manifest.schema)}.{identifier(manifest.table)}"
    with translated():
        here = {c.name: c.type for c in await columns_of(connection, parent, generated=True)}
    for column in manifest.columns:
        if here.get(column.name) != column.type:
            raise PenstockError(
                f"{manifest.file} has a column {column.name} {column.type}, but "
                f"{manifest.schema}.{manifest.table} has "
                f"{here.get(column.name) or 'none of that name'}; read the file with another tool"
            )
