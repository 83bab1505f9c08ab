"""Housekeeping in PostgreSQL: partitions, positions and old crash markers."""

import asyncpg

from penstock.worker.postgres.errors import translated

_FORGET_MARKERS = "DELETE FROM bus.crash_marker WHERE seen_at < now() - interval '7 days'"
_FORGET_REPLICAS = "DELETE FROM bus.replica WHERE seen_at < now() - interval '1 hour'"


class PostgresUpkeep:
    """Housekeeping over a pool."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def maintain(self) -> None:
        """Create partitions ahead of time; tidy the records of positions, crashes and workers."""
        with translated():
            await self._pool.execute("SELECT partitions.maintain()")
            await self._pool.execute("SELECT bus.compact_positions()")
            await self._pool.execute(_FORGET_MARKERS)
            await self._pool.execute(_FORGET_REPLICAS)
