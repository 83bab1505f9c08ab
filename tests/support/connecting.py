"""A plain connection to NATS that outlives the faults of a test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
from nats.aio.client import Client


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    """A client that comes back quickly, as often as it takes, and says nothing of it."""

    async def quiet(_error: Exception) -> None:
        """The faults of these tests are meant."""

    client = await nats.connect(
        url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=quiet
    )
    try:
        yield client
    finally:
        await client.close()
