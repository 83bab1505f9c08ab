"""A partition that was put away, as a file: its rows, and how to tell that they are all there."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg

from penstock.worker.archive import manifest as manifests
from penstock.worker.archive.manifest import Column, Manifest
from penstock.worker.errors import PenstockError
from penstock.worker.postgres.errors import DRIVER_ERRORS, translated
from penstock.worker.postgres.life import Life

_COLUMNS = """
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
       format_type(coalesce(nullif(t.typbasetype, 0), t.oid), -1) AS base
FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped
  AND (a.attgenerated = '' OR $2)
ORDER BY a.attnum
"""
_STEADY = """
SET LOCAL datestyle = 'ISO'; SET LOCAL intervalstyle = 'postgres'; SET LOCAL timezone = 'UTC';
SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; SET LOCAL search_path = pg_catalog
"""
"""What PostgreSQL's texts of values depend on, so that they mean the same everywhere."""

_AVERAGE = """
SELECT pg_total_relation_size(oid) / greatest(1, reltuples), greatest(0, reltuples)::bigint
FROM pg_class WHERE oid = $1::text::regclass
"""
_GROUP_BYTES = 8 * 2**20
_GROUP_ROWS = 10_000
"""Rows of a group: so many that it takes about the same memory, whatever they are like."""

_COUNTED = ("timestamptz", "timestamp", "date")


Told = Callable[[str, int, int], None]
"""Hears what is being done, for how many rows it is, and of how many."""


def ignored(_what: str, _rows: int, _of: int) -> None:
    """Nobody is told."""


async def export(
    connection: asyncpg.Connection, life: Life, folder: Path, told: Told = ignored
) -> tuple[Path, Manifest]:
    """Write the rows of ``life``, which nobody changes any more, to a file in ``folder``, and then
    its manifest. Returns where the file is. ``told`` hears how far it is.

    Raises SinkUnavailable, and PenstockError if the file cannot be written.
    """
    with translated():
        await connection.execute(f"ANALYZE {life.relation}")
        columns = await columns_of(connection, str(life.relation), generated=True)
    with manifests.reserved(folder, life.title) as path:
        with manifests.whole(path) as unfinished:
            rows = await _write(connection, life, columns, unfinished, told)
            sha256 = await asyncio.to_thread(manifests.checksum, unfinished)
            size = unfinished.stat().st_size
        manifest = Manifest(
            schema=life.schema,
            table=life.table,
            partition=life.name,
            lower=life.lower,
            upper=_bounded(life),
            columns=tuple(columns),
            rows=rows,
            file=path.name,
            bytes=size,
            sha256=sha256,
            exported_at=manifests.now(),
        )
        manifests.describe(path, manifest)
    return path.resolve(), manifest


async def columns_of(
    connection: asyncpg.Connection, relation: str, *, generated: bool
) -> list[Column]:
    """The columns of a table, with or without those that the database works out itself."""
    async with connection.transaction():
        await connection.execute(_STEADY)  # types of other schemas are named with these
        found = await connection.fetch(_COLUMNS, relation, generated)
    return [Column(**row) for row in found]


@asynccontextmanager
async def exact_values(
    connection: asyncpg.Connection, **transaction: Any
) -> AsyncIterator[asyncpg.Connection]:
    """A transaction in which moments and days pass as the numbers that PostgreSQL stores, and texts
    of all other values mean the same everywhere. Raises SinkUnavailable, and what may be tried
    again with other data as such.
    """
    with translated():
        for name in _COUNTED:
            await connection.set_type_codec(
                name,
                schema="pg_catalog",
                encoder=lambda number: (number,),
                decoder=lambda parts: parts[0],
                format="tuple",
            )
        try:
            async with connection.transaction(**transaction):
                await connection.execute(_STEADY)
                yield connection
        finally:
            with suppress(*DRIVER_ERRORS):  # as after a lost connection
                for name in _COUNTED:
                    await connection.reset_type_codec(name, schema="pg_catalog")


async def _write(
    connection: asyncpg.Connection,
    life: Life,
    columns: list[Column],
    path: Path,
    told: Told,
) -> int:
    """All rows of one snapshot. Returns how many; raises PenstockError unless the file has them."""
    from penstock.worker.archive import parquet  # noqa: PLC0415  (an extra of its own)

    written = 0
    file = parquet.ParquetFile(path, columns)
    try:
        async with exact_values(connection, isolation="repeatable_read", readonly=True):
            [(average, expected)] = await connection.fetch(_AVERAGE, life.relation)
            group = int(min(_GROUP_ROWS, max(10, _GROUP_BYTES / max(1.0, average))))
            cursor = await connection.cursor(_selected(life, columns))
            while rows := await cursor.fetch(group):
                await asyncio.to_thread(file.write, list(map(tuple, rows)))
                written += len(rows)
                told(life.title, written, max(written, expected))
            counted = await connection.fetchval(f"SELECT count(*) FROM {life.relation}")
    finally:
        await asyncio.to_thread(file.close)
    if not written == counted == parquet.count_rows(path):
        raise PenstockError(
            f"{path} has {parquet.count_rows(path)} rows of {counted} in {life.relation}; please "
            "report it, the table stays"
        )
    return written


def _selected(life: Life, columns: list[Column]) -> str:
    from penstock.worker.archive.parquet import as_text  # noqa: PLC0415  (likewise)

    cells = [f"{identifier(c.name)}::text" if as_text(c) else _plain(c) for c in columns]
    return f"SELECT {', '.join(cells)} FROM {life.relation}"


def _plain(column: Column) -> str:
    """Without its domain, for which the driver has no number."""
    return f"{identifier(column.name)}::{column.base}"


def identifier(name: str) -> str:
    """The name of a column, whatever is in it."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _bounded(life: Life) -> Any:
    if life.upper is None:
        raise PenstockError(f"{life.title} has no end, so no period is ever over; it stays")
    return life.upper
