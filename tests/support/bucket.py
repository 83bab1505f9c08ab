"""Buckets and rows for the tests of the state store."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import nats
from nats.aio.client import Client
from nats.js.api import PersistMode, StreamConfig
from nats.js.errors import ServerError
from nats.js.kv import KeyValue

from penstock.worker.pipeline.ports import KvRow


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    async def quiet(_error: Exception) -> None:
        """The faults of these tests are meant."""

    client = await nats.connect(
        url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=quiet
    )
    try:
        yield client
    finally:
        await client.close()


async def make_bucket(client: Client, name: str, *, atomic: bool, history: int = 5) -> KeyValue:
    """An empty bucket; nats-server takes either atomic batches or asynchronous persistence."""
    js = client.jetstream()
    config = StreamConfig(
        name=f"KV_{name}",
        subjects=[f"$KV.{name}.>"],
        max_msgs_per_subject=history,
        allow_direct=True,
        allow_atomic=atomic,
        persist_mode=None if atomic else PersistMode.ASYNC,
        allow_rollup_hdrs=True,
        deny_delete=True,
    )

    async def made() -> bool:
        try:
            await js.add_stream(config)
        except ServerError:  # the files of a deleted stream of this name are still going away
            return False
        return True

    await eventually(made)
    return await js.key_value(name)


def row(key: str, version: int, value: Any = None, *, gone: bool = False) -> KvRow:
    """A committed row at ``version``; ``gone`` if the key must not be there."""
    guard = [version, f"2026-01-01T00:00:{version % 60:02}.000000Z", f"{version:032x}"]
    document = {"v": version, "t": guard[1], "val": value, "g": guard}
    return KvRow(key=key, guard=guard, value=None if gone else json.dumps(document).encode())


async def eventually(condition: Callable[[], Awaitable[bool]], *, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.05)
