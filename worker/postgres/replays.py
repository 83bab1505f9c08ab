"""Runs of `penstock replay` in ``bus.replay``: one at a time for each question, each goes on where
it was ended.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import msgspec

from penstock.worker.errors import PenstockError
from penstock.worker.postgres.errors import translated
from penstock.worker.postgres.pool import connection_apart
from penstock.worker.postgres.transaction import Connection
from penstock.worker.replay.account import Account
from penstock.worker.settings.keys import Settings

_TURN = "SELECT pg_try_advisory_lock(hashtextextended('penstock.replay ' || $1, 0))"
_FIND = """
SELECT replay_id, last_offset, mark FROM bus.replay
WHERE state = 'running' AND asked = $1::text::jsonb AND epoch = $2
ORDER BY replay_id DESC LIMIT 1
"""
_DONE = """
SELECT lower(r), upper(r)
FROM (SELECT unnest(range_agg(p.seqs)) AS r FROM bus.position AS p WHERE p.transport = $1) AS done
"""
_BEGIN = """
INSERT INTO bus.replay (asked, epoch, last_offset, worker) VALUES ($1::text::jsonb, $2, $3, $4)
RETURNING replay_id
"""
_NOTE = """
UPDATE bus.replay SET
    read = read + $2, inserted = inserted + $3, present = present + $4,
    differing = differing + $5, rejected = rejected + $6,
    differing_ids = (differing_ids || $7::uuid[])[1:1000],
    mark = coalesce($8::text::jsonb, mark), seen_at = now()
WHERE replay_id = $1
"""
_FINISH = """
UPDATE bus.replay SET state = 'finished', finished_at = now(), seen_at = now()
WHERE replay_id = $1
"""
_ACCOUNT = """
SELECT inserted, present, differing, rejected, differing_ids::text[] AS differing_ids
FROM bus.replay WHERE replay_id = $1
"""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run. ``done`` are the offsets that it has settled; ``last`` is where it ends; ``mark``
    is where it stands in a source without offsets.
    """

    number: int
    done: Sequence[tuple[int, int]] = ()
    last: int | None = None
    mark: Any = None

    @property
    def transport(self) -> str:
        """Whose position it is."""
        return f"replay-{self.number}"


@asynccontextmanager
async def turn(settings: Settings, asked: str) -> AsyncIterator[None]:
    """A context in which nobody else asks the same. Raises PenstockError if somebody does."""
    async with connection_apart(settings) as connection:
        with translated():
            free = await connection.fetchval(_TURN, asked)
        if not free:
            raise PenstockError(
                "the same replay is running already; wait for it, or see bus.replay where it stands"
            )
        yield


class Replays:
    """The rows of runs. Raises SinkUnavailable."""

    def __init__(self, pool: asyncpg.Pool, *, worker_id: str) -> None:
        self._pool = pool
        self._worker_id = worker_id

    async def unfinished(self, asked: str, epoch: str) -> Run | None:
        """The last run of the same question, if it was ended before its time and the stream is the
        same.
        """
        with translated():
            row = await self._pool.fetchrow(_FIND, asked, epoch)
            if row is None:
                return None
            number, last, mark = row
            found = Run(number=number, last=last, mark=mark and msgspec.json.decode(mark))
            done = await self._pool.fetch(_DONE, found.transport)
        return msgspec.structs.replace(found, done=[(first, after) for first, after in done])

    async def begin(self, asked: str, epoch: str, last: int | None) -> Run:
        """A new run that reads a stream of ``epoch`` up to the offset ``last``."""
        with translated():
            number = await self._pool.fetchval(_BEGIN, asked, epoch, last, self._worker_id)
        return Run(number=number, last=last)

    async def finish(self, run: Run) -> None:
        """It has read everything."""
        with translated():
            await self._pool.execute(_FINISH, run.number)

    async def account(self, run: Run) -> Account:
        """What became of its messages so far, also before it was ended and went on."""
        with translated():
            row = await self._pool.fetchrow(_ACCOUNT, run.number)
        return Account(**dict(row or {}))


async def note(connection: Connection, run: Run, account: Account, mark: Any) -> None:
    """Add what became of a batch, within its transaction. Raises the driver's errors."""
    await connection.execute(
        _NOTE,
        run.number,
        account.read,
        account.inserted,
        account.present,
        account.differing,
        account.rejected,
        account.differing_ids,
        None if mark is None else msgspec.json.encode(mark).decode(),
    )
