"""Connections to PostgreSQL, configured so that a silent server is noticed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from penstock.worker.errors import Cause, SinkUnavailable
from penstock.worker.lifecycle import patiently
from penstock.worker.migrate.connecting import not_connected
from penstock.worker.postgres.errors import DRIVER_ERRORS
from penstock.worker.settings.keys import Settings

Pool = asyncpg.Pool

_FAST_COMPRESSION = """
SELECT set_config(name, 'lz4', false) FROM pg_settings
WHERE name = 'default_toast_compression' AND source = 'default' AND 'lz4' = ANY (enumvals)
"""
"""For values above 2 KB, if the server supports lz4 and no compression has been configured."""

_CONNECT_SECONDS = 5.0
_ACQUIRE_SECONDS = 10.0
_FOR_PROBE = 1
_FOR_OTHERS = 2

_CLIENT_GRACE = 5.0
"""By how many seconds the client's timeout exceeds the server's statement timeout."""


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    """A pool by the settings, closed at the end. Raises SinkUnavailable."""
    pool = await patiently(
        lambda: open_pool(
            settings.postgres_dsn,
            size=settings.pool_size - _FOR_PROBE,
            statement_timeout=settings.statement_timeout,
            lock_timeout=settings.lock_timeout,
            name=settings.worker_id,
        ),
        settings.start_timeout,
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
    least: int = 1,
    statement_timeout: float,
    lock_timeout: float,
    name: str,
) -> asyncpg.Pool:
    """A pool of up to ``size`` connections, ``least`` of them at once; timeouts in seconds.

    Commits are durable, whatever the server's default is. Raises SinkUnavailable.
    """
    try:
        return await asyncpg.create_pool(
            dsn,
            min_size=least,
            max_size=size,
            max_inactive_connection_lifetime=300,
            command_timeout=statement_timeout + _CLIENT_GRACE,
            timeout=_CONNECT_SECONDS,
            init=prepare_connection,
            reset=_leave,
            server_settings=_session(statement_timeout, lock_timeout, name),
        )
    except (*DRIVER_ERRORS, ValueError) as error:
        raise not_connected(dsn, error) from error


@asynccontextmanager
async def connection_apart(
    settings: Settings, *, dsn: str | None = None, hurried: bool = True, **parameters: str
) -> AsyncIterator[asyncpg.Connection]:
    """A connection beside the pool, for what belongs to a session; ``parameters`` are of the
    server, ``dsn`` another login. Unless it is ``hurried``, a statement may take any time. Raises
    SinkUnavailable.
    """
    dsn = dsn or settings.postgres_dsn
    statement_timeout = settings.statement_timeout if hurried else 0.0
    try:
        connection = await asyncpg.connect(
            dsn,
            command_timeout=statement_timeout + _CLIENT_GRACE if hurried else None,
            timeout=_CONNECT_SECONDS,
            server_settings={
                **_session(statement_timeout, settings.lock_timeout, settings.worker_id),
                **parameters,
            },
        )
    except (*DRIVER_ERRORS, ValueError) as error:
        raise not_connected(dsn, error) from error
    try:
        yield connection
    finally:
        try:
            await connection.close(timeout=2)
        except DRIVER_ERRORS:
            connection.terminate()


def _session(statement_timeout: float, lock_timeout: float, name: str) -> dict[str, str]:
    return {
        "application_name": f"penstock {name}"[:63],
        "statement_timeout": str(int(statement_timeout * 1000)),
        "lock_timeout": str(int(lock_timeout * 1000)),
        "idle_in_transaction_session_timeout": "60000",
        "tcp_keepalives_idle": "30",
        "synchronous_commit": "on",
        "jit": "off",  # compiling a statement takes longer than any batch
        "timezone": "UTC",
    }


def writers(pool: asyncpg.Pool) -> int:
    """How many batches may write at once. The other connections are for reading rows for the
    bucket, and for upkeep.
    """
    return max(1, int(pool.get_max_size()) - _FOR_OTHERS)


@asynccontextmanager
async def borrowed(pool: asyncpg.Pool) -> AsyncIterator[PoolConnectionProxy]:
    """A connection of the pool for a short while. Raises the driver's errors, and SinkUnavailable
    if all of them stay in use.
    """
    try:
        connection = await pool.acquire(timeout=_ACQUIRE_SECONDS)
    except TimeoutError as error:
        size = pool.get_max_size()
        if pool.get_size() < size or pool.get_idle_size():
            raise
        raise SinkUnavailable(
            f"all {size} connections to PostgreSQL were in use for {_ACQUIRE_SECONDS:g} s; find "
            "what holds them in pg_stat_activity, or raise pool_size",
            cause=Cause.BUSY,
        ) from error
    try:
        yield connection
    finally:
        await pool.release(connection)


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
