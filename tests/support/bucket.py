"""Buckets and rows for the tests of the state store."""

import json
from typing import Any

from nats.aio.client import Client
from nats.js.api import PersistMode, StreamConfig
from nats.js.errors import ServerError
from nats.js.kv import KeyValue

from penstock.worker.nats.kv.entries import bucket_entries
from penstock.worker.pipeline.ports import KvRow
from tests.support.waiting import PATIENCE, until


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

    await until(made)
    return await js.key_value(name)


def row(key: str, version: int, value: Any = None, *, gone: bool = False) -> KvRow:
    """A committed row at ``version``; ``gone`` if the key must not be there."""
    guard = [version, f"2026-01-01T00:00:{version % 60:02}.000000Z", f"{version:032x}"]
    document = {"v": version, "t": guard[1], "val": value, "g": guard}
    return KvRow(
        key=key,
        guard=json.dumps(guard).encode(),
        value=None if gone else json.dumps(document).encode(),
    )


async def held(client: Client, name: str) -> dict[str, tuple[int, Any]]:
    """What the bucket holds: revision and guard of every key."""
    found = bucket_entries(client, name, PATIENCE)
    return {entry.key: (entry.revision, json.loads(entry.guard)) async for entry in found}
