"""The housekeeping that PostgreSQL is asked for: partitions, positions, rows for the bucket."""

from collections.abc import AsyncGenerator

import asyncpg

from penstock.schemas.identity import entity_uuid
from penstock.worker.pipeline.ports import KvRow
from penstock.worker.postgres.errors import translated
from penstock.worker.postgres.sink import kv_row

_CHUNK = 1_000
_RECONCILE_LOCK = 0x70656E_6B76
"""Advisory lock: one replica reconciles the bucket at a time."""

_HYDRATED = """
SELECT agent_id::text, state_key, is_status, live, guard, value FROM agents.kv
WHERE $1::uuid IS NULL OR agent_id = $1::uuid
"""


_FORGET_SUSPECTS = "DELETE FROM bus.suspect WHERE seen_at < now() - interval '7 days'"


class PostgresUpkeep:
    """Housekeeping over a pool."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def maintain(self) -> None:
        """Create partitions ahead of time and tidy the ledger of positions."""
        with translated():
            await self._pool.execute("SELECT partitions.maintain()")
            await self._pool.execute("SELECT bus.compact_positions()")
            await self._pool.execute(_FORGET_SUSPECTS)

    async def hydrated(self, agent: str | None = None) -> AsyncGenerator[list[KvRow]]:
        """All rows of the KV views in chunks, or those of one agent.

        Gives nothing if another replica is at it, unless one agent is asked for.
        """
        key = None if agent is None else entity_uuid("agent", agent)
        with translated():
            async with self._pool.acquire() as connection:
                if key is None and not await connection.fetchval(
                    "SELECT pg_try_advisory_lock($1)", _RECONCILE_LOCK
                ):
                    return
                try:
                    async with connection.transaction(readonly=True):
                        cursor = await connection.cursor(_HYDRATED, key)
                        while rows := await cursor.fetch(_CHUNK):
                            yield [kv_row(*row) for row in rows]
                finally:
                    if key is None:
                        await connection.execute("SELECT pg_advisory_unlock($1)", _RECONCILE_LOCK)
