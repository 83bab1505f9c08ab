"""Transactions that begin with their first statements in one message.

Every message to the server costs a round trip, which on a busy machine takes longer than what it
asks for; asyncpg's own way is one for BEGIN and one for each savepoint and its release.
"""

import contextlib
from collections.abc import AsyncIterator

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from penstock.worker.postgres.errors import DRIVER_ERRORS

Connection = PoolConnectionProxy

SAVEPOINT = "SAVEPOINT optimistic"
"""Never released: the commit does that."""


@contextlib.asynccontextmanager
async def transaction(connection: Connection, *opening: str) -> AsyncIterator[None]:
    """A transaction, whose ``opening`` is statements without arguments and results.

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
    finally:
        if not ended:
            await _end(connection)


async def _end(connection: Connection) -> None:
    """A connection that cannot even go back is closed: what comes next would be part of this."""
    ended = False
    try:
        with contextlib.suppress(*DRIVER_ERRORS):
            await connection.execute("ROLLBACK")
            ended = True
    finally:
        if not ended:
            with contextlib.suppress(asyncpg.InterfaceError):  # the pool has let go of it already
                connection.terminate()


async def undo(connection: Connection) -> None:
    """Go back to the last `SAVEPOINT`; it may fail again."""
    await connection.execute(f"ROLLBACK TO {SAVEPOINT}")


def literal(text: str) -> str:
    """``text`` as a constant, whatever standard_conforming_strings is."""
    doubled = text.replace("'", "''").replace("\\", "\\\\")
    return f"E'{doubled}'"
