"""Where reading a stream queue goes on: it follows from the positions that batches committed."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from penstock.worker.pipeline.ports import Settled
from penstock.worker.postgres.errors import translated

_RESUME = "SELECT epoch, next_offset FROM bus.resume_offset($1, $2)"
_BEGIN = """
INSERT INTO bus.crash_marker AS s (transport, stream, digest) VALUES ($1, $2, '')
ON CONFLICT (transport, stream, digest)
DO UPDATE SET attempts = s.attempts + 1, seen_at = now()
RETURNING attempts
"""
_END = "DELETE FROM bus.crash_marker WHERE transport = $1 AND stream = $2 AND digest = ''"
_FURTHEST = """
SELECT coalesce(max(upper(p.seqs)), 0)
FROM bus.position AS p
JOIN bus.resume_offset($1, $2) AS newest ON newest.epoch = p.epoch
WHERE p.transport = $1 AND p.stream = $2
"""
_ANCHOR = """
INSERT INTO bus.position (transport, stream, epoch, seqs, begins, worker)
VALUES ($1, $2, $3, '{}', $4, $5)
"""
_SKIP = """
INSERT INTO bus.position (transport, stream, epoch, seqs, worker)
VALUES ($1, $2, $3, int8multirange(int8range($4, $5)), $6)
"""
_GAPS = """
SELECT lower(missing.seqs), upper(missing.seqs)
FROM (
    SELECT range_agg(p.seqs) AS seqs,
           least(
               min(p.begins),
               min(lower(p.seqs)) FILTER (WHERE $5::timestamptz IS NULL OR p.recorded_at >= $5)
           ) AS first,
           max(upper(p.seqs)) AS after
    FROM bus.position AS p
    WHERE p.transport = $1 AND p.stream = $2 AND p.epoch = $3
) AS held
CROSS JOIN LATERAL unnest(
    int8multirange(
        int8range(held.first, greatest(held.first, coalesce($4::bigint + 1, held.after)))
    ) - held.seqs
) AS missing (seqs)
WHERE held.first IS NOT NULL
"""


class PostgresOffsets:
    """The offsets of one broker's stream queues. Raises SinkUnavailable."""

    def __init__(self, pool: asyncpg.Pool, *, transport: str, worker_id: str) -> None:
        self._pool = pool
        self._transport = transport
        self._worker_id = worker_id

    async def resume(self, stream: str) -> tuple[str, int | None]:
        """The newest epoch, and the first offset in it that is not committed; None if none is."""
        with translated():
            found = await self._pool.fetchrow(_RESUME, self._transport, stream)
        return ("", None) if found is None else (found["epoch"], found["next_offset"])

    async def anchor(self, stream: str, epoch: str, first: int) -> None:
        """Keep that everything from ``first`` on is going to be read: `resume` counts from there.

        Without it nobody could tell a first batch that is not committed from one that never was.
        """
        with translated():
            await self._pool.execute(
                _ANCHOR, self._transport, stream, epoch, first, self._worker_id
            )

    async def begin(self, stream: str) -> int | None:
        """Note that reading begins. After the last committed offset, if a reader before this one
        never came to its `end`; None if all did.
        """
        with translated():
            readers = await self._pool.fetchval(_BEGIN, self._transport, stream)
            if readers == 1:
                return None
            return int(await self._pool.fetchval(_FURTHEST, self._transport, stream))

    async def end(self, stream: str) -> None:
        """Note that reading ended in order."""
        with translated():
            await self._pool.execute(_END, self._transport, stream)

    async def skip(self, stream: str, epoch: str, first: int, after: int) -> None:
        """Take the offsets from ``first`` to before ``after`` for done: nothing is stored there."""
        with translated():
            await self._pool.execute(
                _SKIP, self._transport, stream, epoch, first, after, self._worker_id
            )

    async def gaps(
        self, stream: str, settled: Settled, since: datetime | None
    ) -> Sequence[tuple[int, int]]:
        """The offsets that are settled and not committed, as ranges without their ends: from where
        reading began, or from the lowest that is committed (since ``since``, if given). What is
        before a committed one counts as settled if the broker keeps no account.
        """
        given = (self._transport, stream, settled.epoch, settled.upto, since)
        with translated():
            return [(first, after) for first, after in await self._pool.fetch(_GAPS, *given)]
