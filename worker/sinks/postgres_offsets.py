"""Where reading a stream queue goes on: it follows from the positions that batches committed."""

import asyncpg

from worker.sinks.postgres_errors import translated

_RESUME = "SELECT epoch, next_offset FROM bus.resume_offset($1, $2)"
_FURTHEST = """
SELECT coalesce(max(upper(seqs)), 0) FROM bus.position
WHERE transport = $1 AND stream = $2 AND epoch = $3
"""
_SKIP = """
INSERT INTO bus.position (transport, stream, epoch, seqs, worker)
VALUES ($1, $2, $3, int8multirange(int8range($4, $5)), $6)
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

    async def furthest(self, stream: str, epoch: str) -> int:
        """After the last offset that is committed; 0 if none is."""
        with translated():
            return int(await self._pool.fetchval(_FURTHEST, self._transport, stream, epoch))

    async def skip(self, stream: str, epoch: str, first: int, after: int) -> None:
        """Take the offsets from ``first`` to before ``after`` for done: nothing is stored there."""
        with translated():
            await self._pool.execute(
                _SKIP, self._transport, stream, epoch, first, after, self._worker_id
            )
