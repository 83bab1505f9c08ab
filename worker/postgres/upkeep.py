"""Housekeeping in PostgreSQL: partitions, positions, and deleting what is done with."""

from datetime import timedelta

import asyncpg

from penstock.worker.pipeline.upkeep import Policy
from penstock.worker.postgres.errors import translated

_POLICIES = """
SELECT schema_name || '.' || table_name, "interval", premake, retention
FROM partitions.policy
ORDER BY 1
"""
_FORGET_MARKERS = "DELETE FROM bus.crash_marker WHERE seen_at < now() - interval '7 days'"
_STEP = 5_000
_FORGET_PUBLISHED = f"""
DELETE FROM bus.outbox WHERE outbox_id IN (
    SELECT outbox_id FROM bus.outbox WHERE published_at < now() - $1::interval
    ORDER BY published_at LIMIT {_STEP} FOR UPDATE SKIP LOCKED
)
"""
_FORGET_LETTERS = f"SELECT bus.forget_letters($1, {_STEP})"
_FORGET_REPLICAS = "DELETE FROM bus.replica WHERE seen_at < now() - interval '1 hour'"


class PostgresUpkeep:
    """Housekeeping over a pool. Rows of the outbox stay for ``outbox_keep`` once published, dead
    letters for ``letters_keep`` once stored or discarded.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        outbox_keep: timedelta | None = None,
        letters_keep: timedelta | None = None,
    ) -> None:
        self._pool = pool
        self._letters_keep = letters_keep
        self._outbox_keep = outbox_keep

    async def policies(self) -> list[Policy]:
        """How tables are partitioned now."""
        with translated():
            return [Policy(*row) for row in await self._pool.fetch(_POLICIES)]

    async def maintain(self) -> None:
        """Create partitions ahead of time, compact positions, and delete what is over: old crash
        markers, workers that are gone, published rows of the outbox, and letters that are done.
        """
        with translated():
            await self._pool.execute("SELECT partitions.maintain()")
            await self._pool.execute("SELECT bus.compact_positions()")
            await self._pool.execute(_FORGET_MARKERS)
            await self._pool.execute(_FORGET_REPLICAS)
            if self._outbox_keep is not None:
                await self._forget_published(self._outbox_keep)
            if self._letters_keep is not None:
                await self._forget_letters(self._letters_keep)

    async def _forget_published(self, keep: timedelta) -> None:
        """In small steps, so that nobody waits for a lock or for one long transaction."""
        deleted = f"DELETE {_STEP}"
        while deleted == f"DELETE {_STEP}":
            deleted = await self._pool.execute(_FORGET_PUBLISHED, keep)

    async def _forget_letters(self, keep: timedelta) -> None:
        while await self._pool.fetchval(_FORGET_LETTERS, keep) == _STEP:
            continue
