"""Messages that came back too often: written down before a worker touches them.

The broker's count of deliveries also grows while PostgreSQL or the bucket is away, so it cannot say
that a message is bad. Only a message that ends the worker leaves its mark here: whoever survives
wipes it away.
"""

from collections.abc import Sequence
from hashlib import sha256

import asyncpg

from worker.ports import Message
from worker.sinks.postgres_errors import translated

_CRASHES = """
SELECT digest, attempts FROM bus.suspect
WHERE transport = $1 AND stream = $2 AND digest = ANY($3::bytea[])
"""
_BEGIN = """
INSERT INTO bus.suspect AS s (transport, stream, digest)
SELECT $1, $2, digest FROM unnest($3::bytea[]) AS digest ORDER BY digest
ON CONFLICT (transport, stream, digest)
DO UPDATE SET attempts = s.attempts + 1, seen_at = now()
"""
_END = """
DELETE FROM bus.suspect WHERE transport = $1 AND stream = $2 AND digest = ANY($3::bytea[])
"""


class PostgresSuspects:
    """The suspects of one source."""

    def __init__(self, pool: asyncpg.Pool, *, transport: str, stream: str) -> None:
        self._pool = pool
        self._of = (transport, stream)

    async def crashes(self, messages: Sequence[Message]) -> list[int]:
        """How often handling of each began and never ended."""
        digests = [sha256(message.body).digest() for message in messages]
        with translated():
            found = await self._pool.fetch(_CRASHES, *self._of, digests)
        attempts: dict[bytes, int] = {row[0]: row[1] for row in found}
        return [attempts.get(digest, 0) for digest in digests]

    async def begin(self, messages: Sequence[Message]) -> None:
        """Note that handling begins."""
        await self._run(_BEGIN, messages)

    async def end(self, messages: Sequence[Message]) -> None:
        """Forget them: the worker is still there, so they did it no harm."""
        await self._run(_END, messages)

    async def _run(self, statement: str, messages: Sequence[Message]) -> None:
        digests = sorted({sha256(message.body).digest() for message in messages})
        with translated():
            await self._pool.execute(statement, *self._of, digests)
