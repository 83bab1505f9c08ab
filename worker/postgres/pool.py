"""Connections to PostgreSQL, configured so that a silent server is noticed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from penstock.worker.errors import SinkUnavailable
from penstock.worker.lifecycle import patiently
from penstock.worker.postgres.errors import DRIVER_ERRORS
from penstock.worker.settings.keys import Settings
from penstock.worker.wording import redacted, unreachable

_FAST_COMPRESSION = """
SELECT set_config(name, 'lz4', false) FROM pg_settings
WHERE name = 'default_toast_compression' AND source = 'default' AND 'lz4' = ANY (enumvals)
"""
"""For values above 2 KB, if the server supports lz4 and no compression has been configured."""

_FOR_OTHERS = 3

_CLIENT_GRACE = 5.0
"""By how many seconds the client's timeout exceeds the server's statement timeout."""


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    """A pool by the settings, closed at the end. Raises SinkUnavailable."""
    pool = await patiently(
        lambda: open_pool(
            settings.postgres_dsn,
            size=settings.pool_size,
            statement_timeout=settings.statement_timeout,
            lock_timeout=settings.lock_timeout,
            name=settings.worker_id,
        )
    )
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), 5)
        except TimeoutError:
            pool.terminate()


async def open_pool(
    dsn: str,
    *,
    size: int,
    statement_timeout: float,
    lock_timeout: float,
    name: str,
) -> asyncpg.Pool:
    """A pool of up to ``size`` connections; timeouts in seconds.

    Commits are durable, whatever the server's default is. Raises SinkUnavailable.
    """
    try:
        return await asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=size,
            max_inactive_connection_lifetime=300,
            command_timeout=statement_timeout + _CLIENT_GRACE,
            timeout=10,
            init=prepare_connection,
            reset=_leave,
            server_settings={
                "application_name": f"penstock {name}"[:63],
                "statement_timeout": str(int(statement_timeout * 1000)),
                "lock_timeout": str(int(lock_timeout * 1000)),
                "idle_in_transaction_session_timeout": "60000",
                "tcp_keepalives_idle": "30",
                "synchronous_commit": "on",
                "jit": "off",  # compiling a statement takes longer than any batch
                "timezone": "UTC",
            },
        )
    except (*DRIVER_ERRORS, ValueError) as error:
        server = f"PostgreSQL at {redacted(dsn)}"
        raise SinkUnavailable(unreachable(server, error)) from error


def writers(pool: asyncpg.Pool) -> int:
    """How many batches may write at once. The other connections are for reading rows for the
    bucket, for upkeep, and for the health check.
    """
    return max(1, int(pool.get_max_size()) - _FOR_OTHERS)


async def _leave(connection: asyncpg.Connection) -> None:
    """Reset nothing: nothing here changes a session beyond its transaction, and asyncpg's own reset
    is one more statement for every batch.

    A server that says that it takes no writes any more has been replaced. The connection is closed;
    the next one goes to whichever host of the DSN does take them.
    """
    said = connection.get_settings()
    if any(getattr(said, name, "off") == "on" for name in _READ_ONLY):
        connection.terminate()


_READ_ONLY = ("in_hot_standby", "default_transaction_read_only")
"""Settings that PostgreSQL 14 and later tell each session, at start and when they change."""


async def prepare_connection(connection: asyncpg.Connection) -> None:
    """Pass jsonb as bytes in its binary format (a version byte, then the text), and have large
    values compressed fast.
    """
    await connection.execute(_FAST_COMPRESSION)
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=b"\x01".__add__,
        decoder=lambda data: bytes(data[1:]),
        format="binary",
    )
