"""Reading back what the worker wrote, for comparison."""

from collections.abc import Collection
from typing import Any

import asyncpg

CLOCKS = ("recorded_at", "updated_at", "last_run")
"""Columns with the time of recording, which may differ between two equal runs."""

BY_THE_CLOCK = (
    "telemetry.rollup_hour",
    "telemetry.rollup_day",
    "trust.score",
    "merit.leaderboard",
)
"""Tables that a job fills when their time has come."""

OF_THE_SERVER = (
    "audit.seal",
    "monitoring.alert",
    "monitoring.query_plan",
    "monitoring.index_recommendation",
)
"""Tables that say what a server did, and when: no two runs leave the same."""

WHEN = ("as_of", "computed_at", "run_id", "trend")
"""Their columns that tell when that was, and what it was before."""

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

_FILES = """
SELECT given.name, file.name::text
FROM unnest($1::text[]) AS given (name)
CROSS JOIN LATERAL (
    SELECT coalesce(part.relid, given.name::regclass)
    FROM (VALUES (true)) AS one LEFT JOIN pg_partition_tree(given.name::regclass) AS part
        ON part.isleaf
) AS file (name)
WHERE pg_relation_size(file.name) > 0
"""
"""Tables and partitions into which anything was ever written. Most are empty: to read them all, or
to truncate them, would take longer than what is tested.
"""

_ROLLED_UP = """
SELECT telemetry.roll_up_at(
    array(SELECT DISTINCT date_trunc('hour', occurred_at) FROM telemetry.metric), 'infinity'
)
"""

Source = asyncpg.Pool | asyncpg.Connection


async def data_tables(connection: Any) -> list[str]:
    """Every table that events are written to, partitions left out."""
    return [name for (name,) in await connection.fetch(_TABLES)]


async def snapshot(connection: Source, *, by_the_clock: bool = False) -> dict[str, list[str]]:
    """All rows that follow from events alone as JSON text, without the clocks of recording. With
    ``by_the_clock`` also what follows from the hour, once `work_out_all` was there.
    """
    tables = await data_tables(connection)
    left_out = {*OF_THE_SERVER, *(() if by_the_clock else BY_THE_CLOCK)}
    wanted = [table for table in tables if table not in left_out]
    filled = {table for table, _ in await connection.fetch(_FILES, wanted)}
    return {**{table: [] for table in wanted}, **await contents(connection, filled)}


async def contents(connection: Source, tables: Collection[str]) -> dict[str, list[str]]:
    """All rows of tables or views as JSON text, in one statement: there are a hundred of them."""
    found: dict[str, list[str]] = {table: [] for table in tables}
    queries = [
        f"SELECT '{table}', (to_jsonb(t) - ARRAY{clocks_of(table)})::text FROM {table} AS t"
        for table in tables
    ]
    for table, text in await connection.fetch(" UNION ALL ".join(queries)) if queries else ():
        found[table].append(text)
    return {table: sorted(texts) for table, texts in found.items()}


def clocks_of(table: str) -> list[str]:
    """Its columns that may differ between two equal runs."""
    return [*CLOCKS, *(WHEN if table in BY_THE_CLOCK else ())]


async def work_out_all(connection: Source) -> None:
    """Do what the jobs do by the clock, for every hour that has samples, as a superuser."""
    await connection.execute(_ROLLED_UP)
    await connection.execute("SELECT trust.score_all()")
    await connection.execute("SELECT merit.place_now()")


async def clear(connection: Source) -> None:
    """Delete all rows of all data tables, and what is due of them, as a superuser."""
    files = await connection.fetch(_FILES, [*await data_tables(connection), "bus.due"])
    deleting = "".join(f"DELETE FROM {name};" for _, name in files)
    await connection.execute(
        f"BEGIN; SET LOCAL session_replication_role = replica; {deleting} COMMIT"
    )
