"""The list of workers that run: ``bus.replica``."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence

import asyncpg
import msgspec

from penstock.worker.errors import PenstockError
from penstock.worker.postgres.errors import translated

_BEAT = """
INSERT INTO bus.replica AS r (worker, host, pid, version, sources)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (worker) DO UPDATE SET
    host = excluded.host, pid = excluded.pid, version = excluded.version,
    sources = excluded.sources, seen_at = now(),
    started_at = CASE WHEN (r.host, r.pid) = (excluded.host, excluded.pid)
        THEN r.started_at ELSE now() END
"""
_GOODBYE_SECONDS = 2.0
_LEAVE = "DELETE FROM bus.replica WHERE worker = $1 AND host = $2 AND pid = $3"


class PostgresReplicas:
    """One worker's line on the list."""

    def __init__(self, pool: asyncpg.Pool, worker_id: str, version: str) -> None:
        self._pool = pool
        self._worker = worker_id
        self._version = version
        self._process = socket.gethostname(), os.getpid()

    async def beat(self, sources: Sequence[msgspec.Struct]) -> None:
        """Be on the list, with what is read now. Raises SinkUnavailable."""
        line = self._version, msgspec.json.encode(sources)
        with translated():
            await self._pool.execute(_BEAT, self._worker, *self._process, *line)

    async def leave(self) -> None:
        """Be off the list, unless a successor with the same name has taken the line over; and if
        PostgreSQL answers soon, since nobody waits for that when stopping. A line that stays is
        taken for that of a worker that died.
        """
        with contextlib.suppress(PenstockError), translated():
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await self._pool.execute(_LEAVE, self._worker, *self._process)
