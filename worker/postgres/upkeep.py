"""Housekeeping in PostgreSQL: partitions, positions and old crash markers."""

import asyncpg

from penstock.worker.postgres.errors import translated

_FORGET_MARKERS = "DELETE FROM bus.crash_marker WHERE seen_at < now() - interval '7 days'"


class PostgresUpkeep:
    """Housekeeping over a pool."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def maintain(self) -> None:
        """Create partitions ahead of time, compact positions, and delete old crash markers."""
        with translated():
            await self._pool.execute("SELECT partitions.maintain()")
            await self._pool.execute("SELECT bus.compact_positions()")
            await self._pool.execute(_FORGET_MARKERS)
