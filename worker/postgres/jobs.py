"""`bus.job`: what is worked out from stored rows, by name; some of it by the clock."""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from penstock.worker.errors import PenstockError
from penstock.worker.finding import Finding, Verdict
from penstock.worker.postgres.due import work_out
from penstock.worker.postgres.errors import translated
from penstock.worker.postgres.pool import connection_apart
from penstock.worker.settings.keys import Settings

_ALL = """
SELECT name, call, whole, about, key_kind, extract(epoch FROM every)::float8 AS every, enabled,
       last_run, last_ms, last_error
FROM bus.job ORDER BY name
"""
_AHEAD = "last_run > now() + interval '1 minute'"
"""It ran by a clock that was ahead; until that time comes it would not run again."""
_DUE = f"""
SELECT name FROM bus.job
WHERE enabled AND every IS NOT NULL
  AND (last_run IS NULL OR last_run + every <= now() OR {_AHEAD})
"""
_MINE = "SELECT pg_try_advisory_xact_lock(hashtextextended('penstock.job.' || $1, 0))"
_CALL = f"SELECT call FROM bus.job WHERE name = $1 AND name IN ({_DUE})"
_DONE = """
UPDATE bus.job SET last_run = now(), last_ms = $2, last_error = NULL WHERE name = $1
"""
_FAILED = """
UPDATE bus.job SET last_run = now(), last_ms = $2, last_error = left($3, 2000) WHERE name = $1
"""
_LATE = f"""
SELECT name, last_error, last_run FROM bus.job
WHERE enabled AND every IS NOT NULL
  AND (last_error IS NOT NULL OR last_run + 3 * every + interval '1 minute' < now() OR {_AHEAD})
ORDER BY name
"""
_STUCK = """
SELECT function, count(*), min(array_to_string(key, ', ')), max(error),
       extract(epoch FROM clock_timestamp() - min(since))::float8
FROM bus.due
WHERE failures > 0 OR since < clock_timestamp() - interval '1 minute'
GROUP BY function ORDER BY function
"""


class KnownJob(msgspec.Struct, frozen=True):
    """A row of `bus.job`. ``every`` is in seconds, None if only events or people ask for it.
    ``whole`` is a function for what ``call`` passes over because it did it before, if it does.
    """

    name: str
    call: str
    whole: str | None
    about: str
    key_kind: str | None
    every: float | None
    enabled: bool
    last_run: datetime | None
    last_ms: int | None
    last_error: str | None


async def known_jobs(pool: asyncpg.Pool) -> list[KnownJob]:
    """All of them. Raises SinkUnavailable."""
    with translated():
        return [KnownJob(*row) for row in await pool.fetch(_ALL)]


class PostgresJobs:
    """Jobs as a worker runs them. See `penstock.worker.pipeline.derive.Job`."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings

    async def due(self) -> Sequence[str]:
        with translated():
            return [name for (name,) in await self._pool.fetch(f"{_DUE} ORDER BY name")]

    async def run(self, name: str) -> dict[str, Any] | None:
        begun = time.monotonic()
        try:
            return await self._run(name, begun)
        except PenstockError as error:
            with translated():
                await self._pool.execute(_FAILED, name, _ms(begun), str(error))
            raise

    async def _run(self, name: str, begun: float) -> dict[str, Any] | None:
        """In one transaction, with a lock that ends with it: what a killed worker had begun is
        undone, and another one begins again. It may take any time, so not over the pool.
        """
        async with connection_apart(self._settings, hurried=False) as connection:
            with translated():
                async with connection.transaction():
                    call = None
                    if await connection.fetchval(_MINE, name):
                        call = await connection.fetchval(_CALL, name)
                    if call is None:
                        return None
                    changed = await work_out(connection, call, None)
                    await connection.execute(_DONE, name, _ms(begun))
        return {"changed": len(changed), "ms": _ms(begun)}


def _ms(begun: float) -> int:
    return round((time.monotonic() - begun) * 1000)


async def derived(
    settings: Settings,
    job: KnownJob,
    keys: Sequence[Sequence[str]] | None,
    *,
    undo: bool,
    anew: bool = False,
) -> list[str]:
    """Work a job out for ``keys``, or for all there is, in one transaction that may take any time.
    Returns the names of what changed; with ``undo`` nothing stays changed. With ``anew``, what is
    still to come is none of it, where the clock brings it. Raises SinkUnavailable, RowRejected.
    """
    async with connection_apart(settings, hurried=False) as connection:
        with translated():
            work = connection.transaction()
            await work.start()
            try:
                found = []
                if job.whole is not None and not anew:
                    found += await work_out(connection, job.call, None)
                call = job.call if keys is not None else job.whole or job.call
                found += await work_out(connection, call, keys)
            except BaseException:
                await work.rollback()
                raise
            await (work.rollback() if undo else work.commit())
    return list(dict.fromkeys(found))


async def derive_findings(pool: asyncpg.Pool) -> list[Finding]:
    """Jobs that fail or do not run, and values that are not worked out. Raises SinkUnavailable."""
    found = [Finding(Verdict.BAD, text, remedy) for text, remedy in await derive_problems(pool)]
    return found or [Finding(Verdict.GOOD, "derived values are worked out, and jobs run")]


async def derive_problems(pool: asyncpg.Pool) -> list[tuple[str, str]]:
    """The same, each with what to do. Raises SinkUnavailable."""
    with translated():
        late, stuck = await pool.fetch(_LATE), await pool.fetch(_STUCK)
    problems = []
    for name, error, last_run in late:
        if error:
            text, remedy = f"the job {name} fails: {error}", f"`penstock derive {name}` tries it"
        else:
            text = f"the job {name} has not run since {last_run:%Y-%m-%d %H:%M} UTC"
            remedy = "see that a worker runs, and its log"
        problems.append((text, remedy))
    for function, count, key, error, seconds in stuck:
        text = f"{function} has {count} keys due for {seconds:.0f} s, such as {key}"
        remedy = "see docs/operations.md, A derived value is not worked out"
        problems.append((f"{text}: {error}" if error else text, remedy))
    return problems
