"""A plain connection to NATS that survives the faults of a test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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
