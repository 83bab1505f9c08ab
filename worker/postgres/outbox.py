"""`bus.outbox`: the rows that wait, in order, and the turn to relay them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg

from penstock.worker.finding import Finding, Verdict
from penstock.worker.outbox.ports import Backlog, OutboxRow, Outcome
from penstock.worker.postgres.errors import translated
from penstock.worker.postgres.pool import connection_apart
from penstock.worker.settings.keys import Settings

_CHANNEL = "penstock_outbox"
_ASK_AGAIN_SECONDS = 1.0
_IDLE_MS = "30000"
"""A worker that shows no life for so long, because it is stopped, loses its turn."""

_TURN = "SELECT pg_try_advisory_lock(hashtextextended('penstock.outbox', 0))"

# A sequence of numbers is no order of commits, so no row is passed over by its number: all that are
# visible and wait are taken. Stored sizes are summed up first, without reading data, lest all of a
# thousand large rows are read to send two. OFFSET 0: data is written out as text only once.
_WAITING = """
SELECT outbox_id, event_id::text, type, key, CASE WHEN size <= $2 THEN data::text END AS data, size,
       time, sequence, source, actor, project, correlationid, causationid
FROM (SELECT d.domain FROM bus.outbox_domain AS d WHERE d.domain <> ALL ($1::text[]) LIMIT 20) AS d
CROSS JOIN LATERAL (
    SELECT o.*, s.size, sum(s.size) OVER (ORDER BY o.outbox_id) - s.size AS before
    FROM (
        SELECT w.*,
               sum(pg_column_size(w.data)) OVER (ORDER BY w.waiting_id) - pg_column_size(w.data)
                   AS stored_before
        FROM bus.outbox AS w
        WHERE w.waiting_id IS NOT NULL AND w.domain = d.domain
        ORDER BY w.waiting_id LIMIT 1000
    ) AS o
    CROSS JOIN LATERAL (SELECT octet_length(o.data::text) AS size OFFSET 0) AS s
    WHERE o.stored_before <= 2097152
) AS sized
WHERE before <= 2097152
ORDER BY outbox_id
"""
_PUBLISHED = """
UPDATE bus.outbox
SET published_at = clock_timestamp(), refused_at = NULL, reason = NULL, error = NULL
WHERE outbox_id = ANY ($1::bigint[]) AND published_at IS NULL
"""
_REFUSED = """
UPDATE bus.outbox AS o SET refused_at = clock_timestamp(), reason = r.reason, error = r.error
FROM unnest($1::bigint[], $2::text[], $3::text[]) AS r (outbox_id, reason, error)
WHERE o.outbox_id = r.outbox_id AND o.published_at IS NULL
"""
_BACKLOG = """
SELECT (SELECT count(*) FROM (
           SELECT FROM bus.outbox WHERE waiting_id IS NOT NULL LIMIT 100000
       ) AS counted) AS waiting,
       greatest(0, extract(epoch FROM clock_timestamp() - (
           SELECT min(first.recorded_at)
           FROM bus.outbox_domain AS d
           CROSS JOIN LATERAL (
               SELECT w.recorded_at FROM bus.outbox AS w
               WHERE w.waiting_id IS NOT NULL AND w.domain = d.domain
               ORDER BY w.waiting_id LIMIT 1
           ) AS first
       )))::float8 AS oldest_age,
       (SELECT count(*) FROM bus.outbox WHERE refused_at IS NOT NULL) AS refused
"""
_LATE_SECONDS = 60.0


class PostgresOutbox:
    """The outbox of the worker's database."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings

    @asynccontextmanager
    async def turn(self, wake: asyncio.Event) -> AsyncIterator["PostgresTurn"]:
        """On a connection of its own: the lock is the session's, and ends with it."""
        async with connection_apart(self._settings, idle_session_timeout=_IDLE_MS) as connection:
            with translated():
                while not await connection.fetchval(_TURN):  # noqa: ASYNC110  (the server's lock)
                    await asyncio.sleep(_ASK_AGAIN_SECONDS)
                connection.add_termination_listener(lambda _: wake.set())
                await connection.add_listener(_CHANNEL, lambda *_: wake.set())
            yield PostgresTurn(connection, self._settings.max_event_bytes)

    async def backlog(self) -> Backlog:
        with translated():
            [found] = await self._pool.fetch(_BACKLOG)
        return Backlog(**found)


class PostgresTurn:
    """A turn for as long as the session lives. What is done in it shows that it does."""

    def __init__(self, connection: asyncpg.Connection, max_bytes: int) -> None:
        self._connection = connection
        self._max_bytes = max_bytes
        self._alone = asyncio.Lock()

    async def waiting(self, busy: Sequence[str]) -> list[OutboxRow]:
        async with self._alone:
            with translated():
                rows = await self._connection.fetch(_WAITING, busy, self._max_bytes)
        return [_row(row) for row in rows]

    async def settle(self, outcome: Outcome) -> None:
        refused = outcome.refused
        async with self._alone:
            with translated():
                if outcome.published:
                    await self._connection.execute(_PUBLISHED, outcome.published)
                if refused:
                    await self._connection.execute(
                        _REFUSED,
                        [found.outbox_id for found in refused],
                        [found.reason for found in refused],
                        [found.error for found in refused],
                    )


def _row(row: asyncpg.Record) -> OutboxRow:
    fields = dict(row)
    data = fields.pop("data")
    return OutboxRow(**fields, data=None if data is None else data.encode())


async def outbox_finding(pool: asyncpg.Pool, settings: Settings) -> Finding:
    """Rows that are refused, or that nobody has sent. Raises SinkUnavailable."""
    found = await PostgresOutbox(pool, settings).backlog()
    if found.refused:
        remedy = "SELECT reason, error, count(*) FROM bus.outbox GROUP BY 1, 2; see docs/outbox.md"
        return Finding(Verdict.BAD, f"{found.refused} rows of bus.outbox are refused", remedy)
    if found.oldest_age > _LATE_SECONDS:
        text = f"{found.waiting} rows of bus.outbox wait, the oldest for {found.oldest_age:.0f} s"
        return Finding(Verdict.BAD, text, "see that a worker runs with outbox = true, and its log")
    return Finding(Verdict.GOOD, f"{found.waiting} rows of bus.outbox wait")
