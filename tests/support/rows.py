"""Reading back what the worker wrote, for comparison."""

from typing import Any

import asyncpg

CLOCKS = ("recorded_at", "updated_at", "last_run")
"""Columns with the time of recording, which may differ between two equal runs."""

BY_THE_CLOCK = (
    "audit.seal",
    "telemetry.rollup_hour",
    "telemetry.rollup_day",
    "trust.score",
    "merit.leaderboard",
    "monitoring.alert",
    "monitoring.query_plan",
    "monitoring.index_recommendation",
)
"""Tables that a job fills when their time has come."""

_TABLES = """
SELECT n.nspname || '.' || c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND n.nspname !~ '^pg_'
  AND n.nspname NOT IN ('information_schema', 'public', 'bus', 'partitions', 'archive')
  AND n.nspname || '.' || c.relname
      NOT IN ('config.band', 'config.parameter', 'monitoring.alert_threshold')
ORDER BY 1
"""

_ROWS = """
SELECT (to_jsonb(t) - $1::text[])::text FROM {table} AS t ORDER BY 1
"""


async def data_tables(connection: Any) -> list[str]:
    """Every table that events are written to, partitions left out."""
    return [name for (name,) in await connection.fetch(_TABLES)]


async def snapshot(connection: asyncpg.Pool | asyncpg.Connection) -> dict[str, list[str]]:
    """All rows that follow from events alone as JSON text, without the clocks of recording."""
    return {
        table: [text for (text,) in await connection.fetch(_ROWS.format(table=table), list(CLOCKS))]
        for table in await data_tables(connection)
        if table not in BY_THE_CLOCK
    }


async def clear(connection: asyncpg.Pool | asyncpg.Connection) -> None:
    """Delete all rows of all data tables, and what is due of them."""
    tables = ", ".join([*await data_tables(connection), "bus.due"])
    await connection.execute(f"TRUNCATE {tables} CASCADE")
    await connection.execute("TRUNCATE audit.log")  # it has put on record that others were emptied
