"""Partitions that a span of time needs and that are not there yet."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg
import msgspec

from penstock.worker.postgres.errors import translated

_MISSING = """
SELECT p.schema_name AS schema, p.table_name AS table, p.table_name || span.suffix AS name,
       span.lower, span.upper,
       partitions.is_detached(p.schema_name, p.table_name, tstzrange(span.lower, span.upper))
           AS detached
FROM partitions.policy AS p
CROSS JOIN LATERAL generate_series(
    (partitions.period(p."interval", coalesce($1, now()))).lower AT TIME ZONE 'UTC',
    coalesce($2, now() + p.premake * ('1 ' || p."interval")::interval) AT TIME ZONE 'UTC',
    ('1 ' || p."interval")::interval
) AS start
CROSS JOIN LATERAL partitions.period(p."interval", start AT TIME ZONE 'UTC') AS span
WHERE ($3::text[] = '{}' OR p.schema_name || '.' || p.table_name = ANY ($3))
  AND partitions.is_attached(p.schema_name, p.table_name || span.suffix) IS NOT TRUE
ORDER BY p.schema_name, p.table_name, span.lower
"""
_TABLES = "SELECT schema_name || '.' || table_name FROM partitions.policy ORDER BY 1"


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """A period without a partition. ``detached``: retention took it out, so none may be made."""

    schema: str
    table: str
    name: str
    lower: datetime
    upper: datetime
    detached: bool


async def missing(
    pool: asyncpg.Pool, since: datetime | None, until: datetime | None, tables: Sequence[str]
) -> list[Missing]:
    """The periods from now, or ``since``, to where the policy wants partitions, or ``until``. Of
    all tables, unless some are named. Raises SinkUnavailable.
    """
    with translated():
        found = await pool.fetch(_MISSING, since, until, list(tables))
    return [Missing(**row) for row in found]


async def make(pool: asyncpg.Pool, period: Missing) -> None:
    """Make its partition, unless somebody has by now. Raises SinkUnavailable."""
    with translated():
        await pool.execute(
            "SELECT partitions.ensure_for($1, $2, $3)", period.schema, period.table, period.lower
        )


async def partitioned(pool: asyncpg.Pool) -> list[str]:
    """The tables that have a policy. Raises SinkUnavailable."""
    with translated():
        return [name for (name,) in await pool.fetch(_TABLES)]
