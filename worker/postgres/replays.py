"""Runs of `penstock replay` in ``bus.replay``: one at a time for each question, each goes on where
it was ended.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import asyncpg
import msgspec

from penstock.worker.errors import PenstockError
from penstock.worker.postgres.errors import translated
from penstock.worker.postgres.pool import connection_apart
from penstock.worker.postgres.positions import multirange
from penstock.worker.postgres.transaction import Connection
from penstock.worker.replay.account import Account
from penstock.worker.replay.offsets import OffsetSet
from penstock.worker.replay.standing import Standing
from penstock.worker.settings.keys import Settings

_TURN = "SELECT pg_try_advisory_lock(hashtextextended('penstock.replay ' || $1, 0))"
_FIND = """
SELECT replay_id, epoch, since, last_offset, mark, beyond FROM bus.replay
WHERE state = 'running' AND asked = $1::text::jsonb
ORDER BY replay_id DESC LIMIT 1
"""
_DONE = """
SELECT lower(r), upper(r)
FROM (SELECT unnest(range_agg(p.seqs)) AS r FROM bus.position AS p WHERE p.transport = $1) AS done
"""
_DONE_BEFORE = """
SELECT lower(r), upper(r)
FROM (
    SELECT unnest(range_agg(p.seqs)) AS r FROM bus.position AS p
    WHERE p.transport = $1 AND p.seqs && $2::text::int8multirange AND p.recorded_at <> now()
) AS done
"""
"""Without what this very transaction has written, whose time is the one of ``now()``."""

_STANDING = "SELECT mark, beyond FROM bus.replay WHERE replay_id = $1 FOR UPDATE"
_BEGIN = """
INSERT INTO bus.replay (asked, epoch, since, last_offset, worker)
VALUES ($1::text::jsonb, $2, $3, $4, $5)
RETURNING replay_id
"""
_GO_ON = """
UPDATE bus.replay SET last_offset = $2, worker = $3, seen_at = now() WHERE replay_id = $1
"""
_NOTE = """
UPDATE bus.replay SET
    read = read + $2, inserted = inserted + $3, present = present + $4,
    differing = differing + $5, rejected = rejected + $6,
    differing_ids = (differing_ids || $7::uuid[])[1:1000],
    mark = coalesce($8::text::jsonb, mark), beyond = coalesce($9::text::jsonb, beyond),
    seen_at = now()
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
    """One run of a stream of ``epoch``. ``done`` are the offsets that it has settled, ``standing``
    is where it stands in a source without offsets; it begins at ``since``, and ends at ``last``.
    """

    number: int
    epoch: str = ""
    since: datetime | None = None
    last: int | None = None
    done: Sequence[tuple[int, int]] = ()
    standing: Standing = Standing()

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

    async def unfinished(self, asked: str) -> Run | None:
        """The last run of the same question that was ended before its time."""
        with translated():
            row = await self._pool.fetchrow(_FIND, asked)
            if row is None:
                return None
            number, epoch, since, last, *standing = row
            found = Run(
                number=number, epoch=epoch, since=since, last=last, standing=_standing(*standing)
            )
            done = await self._pool.fetch(_DONE, found.transport)
        return msgspec.structs.replace(found, done=[(first, after) for first, after in done])

    async def begin(
        self, asked: str, epoch: str, *, since: datetime | None, last: int | None
    ) -> Run:
        """A new run that reads a stream of ``epoch`` from a time up to the offset ``last``."""
        with translated():
            number = await self._pool.fetchval(_BEGIN, asked, epoch, since, last, self._worker_id)
        return Run(number=number, epoch=epoch, since=since, last=last)

    async def go_on(self, run: Run, last: int | None) -> None:
        """It is read again, up to the offset ``last``."""
        with translated():
            await self._pool.execute(_GO_ON, run.number, last, self._worker_id)

    async def finish(self, run: Run) -> None:
        """It has read everything."""
        with translated():
            await self._pool.execute(_FINISH, run.number)

    async def account(self, run: Run) -> Account:
        """What became of its messages so far, also before it was ended and went on."""
        with translated():
            row = await self._pool.fetchrow(_ACCOUNT, run.number)
        return Account(**dict(row or {}))


async def done_before(connection: Connection, run: Run, offsets: Sequence[int]) -> OffsetSet:
    """Those of the sorted ``offsets`` that another transaction has settled, and some others. Raises
    the driver's errors.
    """
    found = await connection.fetch(_DONE_BEFORE, run.transport, multirange(offsets))
    return OffsetSet([(first, after) for first, after in found])


async def standing_of(connection: Connection, run: Run) -> Standing:
    """Where the run stands, until this transaction ends. Raises the driver's errors."""
    row = await connection.fetchrow(_STANDING, run.number)
    return _standing(*row) if row else Standing()


def _standing(mark: str | None, beyond: str) -> Standing:
    return Standing.of(mark and msgspec.json.decode(mark), msgspec.json.decode(beyond))


async def note(
    connection: Connection, run: Run, account: Account, standing: Standing | None
) -> None:
    """Add what became of a batch, within its transaction, and where that leads to in a source
    without offsets. Raises the driver's errors.
    """
    await connection.execute(
        _NOTE,
        run.number,
        account.read,
        account.inserted,
        account.present,
        account.differing,
        account.rejected,
        account.differing_ids,
        standing and msgspec.json.encode(standing.mark).decode(),
        standing and msgspec.json.encode(sorted(standing.beyond)).decode(),
    )
