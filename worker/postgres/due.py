"""`bus.due`: what events change is noted in their transaction, and worked out in another one.

Why nothing stays underived, whoever is killed: a row is there as soon as the events are, and goes
with the commit of what the function wrote. Why nothing is derived from half the events: a row that
is seen belongs to events that are committed, and the function reads after that.
"""

from collections.abc import Sequence

import asyncpg

from penstock.worker.errors import Cause
from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.derive import Failed
from penstock.worker.pipeline.plan import Plan
from penstock.worker.postgres.errors import DRIVER_ERRORS, classify, translated
from penstock.worker.postgres.parts import Part
from penstock.worker.postgres.pool import borrowed
from penstock.worker.postgres.statements import quoted
from penstock.worker.postgres.transaction import Connection, transaction

_PATIENCE = 300
"""Seconds for a function: it may have much to read."""

# All rows of a key at once, also those that were put off. Those that somebody else is at may be
# passed over: he has seen them. In one statement, so that what is deleted is what was seen.
_TAKE = """
WITH first AS (
    SELECT d.key FROM bus.due AS d
    WHERE d.function = $1 AND d.due_at <= clock_timestamp()
    ORDER BY d.due_id LIMIT $2 FOR UPDATE SKIP LOCKED
), taken AS (
    SELECT d.due_id, d.key FROM bus.due AS d
    WHERE d.function = $1 AND d.key IN (SELECT f.key FROM first AS f)
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM bus.due AS d USING taken AS t WHERE d.due_id = t.due_id
)
SELECT DISTINCT t.key FROM taken AS t ORDER BY t.key
"""

# Twice as late each time, up to an hour.
_PUT_OFF = """
WITH late AS (
    SELECT d.due_id FROM bus.due AS d
    WHERE d.function = $1 AND d.key = $2
    FOR UPDATE SKIP LOCKED
)
UPDATE bus.due AS d
SET failures = d.failures + 1, error = left($3, 2000),
    due_at = clock_timestamp()
        + least(interval '1 hour', interval '5 seconds' * 2 ^ least(d.failures, 10))
FROM late AS l
WHERE d.due_id = l.due_id
"""


class DuePart(Part):
    """Notes what follows from the batch's events; of duplicates too, which does no harm."""

    def __init__(self, batch: Batch) -> None:
        """Nothing of the batch is needed but its plan."""

    async def write(self, connection: Connection, fresh: Plan) -> Plan:
        for function, keys in sorted(fresh.due.items()):
            columns = list(zip(*keys, strict=True))
            await connection.execute(_noting(len(columns)), function, *columns)
        return fresh


def _noting(count: int) -> str:
    names = ", ".join(f"k{n}" for n in range(count))
    arrays = ", ".join(f"${n + 2}::text[]" for n in range(count))
    return (
        f"INSERT INTO bus.due (function, key) "
        f"SELECT $1::text, ARRAY[{names}] FROM unnest({arrays}) AS g ({names})"
    )


class PostgresDue:
    """What is due, over a pool. See `penstock.worker.pipeline.derive.Due`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def take(self, function: str, most: int) -> int:
        with translated():
            async with borrowed(self._pool) as connection, transaction(connection, _PATIENT):
                keys = [key for (key,) in await connection.fetch(_TAKE, function, most)]
                if keys:
                    await _called(connection, function, keys)
        return len(keys)

    async def put_off(self, function: str, error: Failed) -> None:
        with translated():
            for key in error.keys:
                await self._pool.execute(_PUT_OFF, function, key, str(error))


_PATIENT = f"SET LOCAL statement_timeout = '{_PATIENCE}s'"


async def _called(connection: Connection, function: str, keys: Sequence[Sequence[str]]) -> None:
    try:
        await work_out(connection, function, keys, timeout=_PATIENCE + 5)
    except DRIVER_ERRORS as error:
        found = classify(error)
        if found.cause is Cause.AWAY:
            raise
        raise Failed(str(found), keys) from error


async def work_out(
    connection: Connection | asyncpg.Connection,
    function: str,
    keys: Sequence[Sequence[str]] | None,
    timeout: float | None = None,
) -> list[str]:
    """Call a function for ``keys``, or for all there is. Returns the names of what it changed.

    Raises the driver's errors.
    """
    if keys is None:
        rows = await connection.fetch(f"SELECT * FROM {quoted(function)}()", timeout=timeout)
    else:
        columns = [list(column) for column in zip(*keys, strict=True)]
        places = ", ".join(f"${n}" for n in range(1, len(columns) + 1))
        call = f"SELECT * FROM {quoted(function)}({places})"
        rows = await connection.fetch(call, *columns, timeout=timeout)
    return [name for (name,) in rows]
