"""Crash markers: what a worker begins with is written down, if it came back too often.

The broker's count of deliveries also grows while PostgreSQL or the bucket is away, so it cannot say
that a message is poison. Only a message that ends the worker leaves its marker here: whoever
survives wipes it away.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import asyncpg

from penstock.worker.pipeline.ports import Message
from penstock.worker.postgres.errors import translated

_CRASHES = """
SELECT digest, attempts FROM bus.crash_marker
WHERE transport = $1 AND stream = $2 AND digest = ANY($3::bytea[])
"""
_BEGIN = """
INSERT INTO bus.crash_marker AS s (transport, stream, digest)
SELECT $1, $2, digest FROM unnest($3::bytea[]) AS digest ORDER BY digest
ON CONFLICT (transport, stream, digest)
DO UPDATE SET attempts = s.attempts + 1, seen_at = now()
"""
_ENDED_WORKERS = """
SELECT DISTINCT digest FROM bus.dead_letter
WHERE reason = 'crashes_workers' AND status <> 'stored' AND digest IS NOT NULL
"""
_MARKED = "SELECT digest FROM bus.crash_marker WHERE transport = $1 AND stream = $2"
_END = """
DELETE FROM bus.crash_marker WHERE transport = $1 AND stream = $2 AND digest = ANY($3::bytea[])
"""


class PostgresCrashMarkers:
    """The markers of one source. ``alone`` is held while one is there, by all sources of this
    process: two messages that are marked together would both seem to have ended it.
    """

    def __init__(
        self, pool: asyncpg.Pool, alone: asyncio.Lock, *, transport: str, stream: str
    ) -> None:
        self._pool = pool
        self._alone = alone
        self._of = (transport, stream)
        self._survived: set[bytes] = set()

    async def crashes(self, messages: Sequence[Message]) -> list[int]:
        """How often handling of each began and never ended."""
        await self._wipe()
        digests = _digests(messages)
        with translated():
            found = await self._pool.fetch(_CRASHES, *self._of, digests)
        attempts: dict[bytes, int] = {row[0]: row[1] for row in found}
        return [attempts.get(digest, 0) for digest in digests]

    @asynccontextmanager
    async def handling(self, messages: Sequence[Message]) -> AsyncIterator[None]:
        """Mark that handling begins; in the end forget them, as the worker is still there."""
        async with self._alone:
            with translated():
                await self._pool.execute(_BEGIN, *self._of, sorted(set(_digests(messages))))
            try:
                yield
            finally:
                await self.forget(messages)

    async def forget(self, messages: Sequence[Message]) -> None:
        """They are done with. If PostgreSQL does not take that now, it will before they return."""
        self._survived.update(_digests(messages))
        await self._wipe()

    async def _wipe(self) -> None:
        if wiped := sorted(self._survived):
            with translated():
                await self._pool.execute(_END, *self._of, wiped)
            self._survived.difference_update(wiped)


class ReplayCrashMarkers(PostgresCrashMarkers):
    """The markers of a replay. What is ``known`` for having ended workers has reached ``most``, so
    it is never tried.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        alone: asyncio.Lock,
        *,
        transport: str,
        stream: str,
        known: Collection[bytes],
        most: int,
    ) -> None:
        super().__init__(pool, alone, transport=transport, stream=stream)
        self._known = known
        self._most = most

    async def crashes(self, messages: Sequence[Message]) -> list[int]:
        counts = zip(_digests(messages), await super().crashes(messages), strict=True)
        return [self._most if digest in self._known else count for digest, count in counts]


async def ended_workers(pool: asyncpg.Pool) -> set[bytes]:
    """The digests of messages that are dead letters because workers did not survive them. Raises
    Unavailable.
    """
    with translated():
        return {digest for (digest,) in await pool.fetch(_ENDED_WORKERS)}


async def marked(pool: asyncpg.Pool, *, transport: str, stream: str) -> set[bytes]:
    """The digests of messages that have a marker. Raises Unavailable."""
    with translated():
        return {digest for (digest,) in await pool.fetch(_MARKED, transport, stream)}


def _digests(messages: Sequence[Message]) -> list[bytes]:
    return [message.digest for message in messages]
