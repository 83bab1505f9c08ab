"""Plain connections to the servers of a test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import nats
from nats.aio.client import Client


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    """A client that reconnects quickly, as often as needed, without logging errors."""

    async def quiet(_error: Exception) -> None:
        """Ignore errors: these tests cause them on purpose."""

    client = await nats.connect(
        url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=quiet
    )
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def connection_to(database: str, **settings: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to PostgreSQL, outside any pool. ``settings`` are those of the server."""
    connection = await asyncpg.connect(database, server_settings=settings)
    try:
        yield connection
    finally:
        await connection.close()
