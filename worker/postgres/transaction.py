"""Transactions whose first statements travel in one message with BEGIN.

Every message to the server costs a round trip, which on a busy machine takes longer than the
statement itself. asyncpg takes one for BEGIN, and one each for a savepoint and its release.
"""

import contextlib
from collections.abc import AsyncIterator

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from penstock.worker.postgres.errors import DRIVER_ERRORS

Connection = PoolConnectionProxy

SAVEPOINT = "SAVEPOINT optimistic"
"""Never released explicitly: the commit releases it."""


@contextlib.asynccontextmanager
async def transaction(connection: Connection, *opening: str) -> AsyncIterator[None]:
    """A transaction. ``opening`` are statements without arguments or results, sent with BEGIN.

    Raises the driver's errors.
    """
    ended = False
    try:
        await connection.execute("; ".join(("BEGIN", *opening)))
        yield
        ended = await connection.execute("COMMIT") == "COMMIT"
        if not ended:
            raise asyncpg.InFailedSQLTransactionError(
                "a statement had failed: nothing is committed"
            )
    except asyncpg.ReadOnlySQLTransactionError:
        connection.terminate()  # it leads to a server that has been replaced, maybe by a proxy
        raise
    finally:
        if not ended:
            await _end(connection)


async def _end(connection: Connection) -> None:
    """Roll back. If even that fails, close the connection: later statements would be part of this
    transaction.
    """
    ended = False
    try:
        with contextlib.suppress(*DRIVER_ERRORS):
            await connection.execute("ROLLBACK")
            ended = True
    finally:
        if not ended:
            with contextlib.suppress(asyncpg.InterfaceError):  # the pool has released it already
                connection.terminate()


async def undo(connection: Connection) -> None:
    """Roll back to the last `SAVEPOINT`, which stays: this may be used again."""
    await connection.execute(f"ROLLBACK TO {SAVEPOINT}")


def literal(text: str) -> str:
    """``text`` as an SQL string constant, whatever standard_conforming_strings is."""
    doubled = text.replace("'", "''").replace("\\", "\\\\")
    return f"E'{doubled}'"
