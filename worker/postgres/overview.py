"""What PostgreSQL knows of a running deployment."""

from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from penstock.worker.postgres.errors import translated

_REPLICAS = """
SELECT worker, host, pid, version, started_at,
       extract(epoch FROM now() - seen_at)::float8 AS silent_seconds, sources
FROM bus.replica
ORDER BY worker
"""
_COMMITS = """
SELECT transport, stream, extract(epoch FROM max(recorded_at))::float8
FROM bus.position
GROUP BY transport, stream
"""
_LETTERS = "SELECT status, count(*) FROM bus.dead_letter GROUP BY status ORDER BY status"
_PARTITIONS = """
WITH made AS MATERIALIZED (SELECT * FROM partitions.partition), missing AS (
    SELECT p.schema_name, p.table_name, n
    FROM partitions.policy AS p
    CROSS JOIN generate_series(0, p.premake) AS n
    CROSS JOIN partitions.period(p."interval", now() + n * ('1 ' || p."interval")::interval) AS due
    WHERE NOT EXISTS (
        SELECT FROM made AS m
        WHERE (m.schema_name, m.table_name) = (p.schema_name, p.table_name)
          AND m.lower_bound <= due.lower AND m.upper_bound >= due.upper
    )
)
SELECT p.schema_name || '.' || p.table_name,
       (SELECT count(*) FROM missing AS m
        WHERE (m.schema_name, m.table_name) = (p.schema_name, p.table_name)),
       (SELECT count(*) FROM missing AS m
        WHERE (m.schema_name, m.table_name) = (p.schema_name, p.table_name) AND m.n <= 1),
       (SELECT count(*) FROM partitions.life AS l
        WHERE (l.schema_name, l.table_name) = (p.schema_name, p.table_name)
          AND l.place IN ('attached', 'detaching') AND l.expires_at <= now())
FROM partitions.policy AS p
ORDER BY 1
"""


class Reader(msgspec.Struct, frozen=True):
    """One stream that a worker says it reads. ``settled_at`` is a Unix time."""

    transport: str
    stream: str
    in_flight: int
    settled_at: float | None = None


_READERS = tuple[Reader, ...]


class Replica(msgspec.Struct, frozen=True):
    """A worker that has said that it runs, and how long ago it said so last."""

    worker: str
    host: str
    pid: int
    version: str
    started_at: datetime
    silent_seconds: float
    sources: tuple[Reader, ...]


class Upcoming(msgspec.Struct, frozen=True):
    """Partitions of a table: ``to_make`` are missing, ``overdue`` of them for this period or the
    next, ``expired`` hold only rows older than the table keeps.
    """

    table: str
    to_make: int
    overdue: int
    expired: int


class Overview(msgspec.Struct, frozen=True):
    """Of one moment. ``commits`` has the Unix time of the last one by transport and stream, where
    the broker has offsets; ``letters`` the number of dead letters by status; ``partitions`` the
    tables that have something due.
    """

    replicas: tuple[Replica, ...]
    commits: dict[tuple[str, str], float]
    letters: dict[str, int]
    partitions: tuple[Upcoming, ...]


async def overview(pool: asyncpg.Pool) -> Overview:
    """Look at all of it. Raises SinkUnavailable."""
    with translated():
        replicas = await pool.fetch(_REPLICAS)
        commits = await pool.fetch(_COMMITS)
        letters = await pool.fetch(_LETTERS)
        partitions = [Upcoming(*row) for row in await pool.fetch(_PARTITIONS)]
    return Overview(
        tuple(_replica(*row) for row in replicas),
        {(transport, stream): moment for transport, stream, moment in commits},
        {status: count for status, count in letters},  # noqa: C416  (records, not pairs)
        tuple(found for found in partitions if found.to_make or found.expired),
    )


def _replica(*cells: Any) -> Replica:
    found: Replica = Replica(*cells)
    return msgspec.structs.replace(found, sources=msgspec.json.decode(cells[-1], type=_READERS))
