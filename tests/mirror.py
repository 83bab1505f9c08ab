"""The bucket, and what PostgreSQL says that it should hold."""

import json
from typing import Any

import asyncpg
import nats

from schemas.identity import kv_key


async def bucket(url: str) -> dict[str, Any]:
    """Every key of the bucket with its document."""
    async with await nats.connect(url) as nc:
        kv = await nc.jetstream().key_value("AGENT_STATE")
        watcher = await kv.watchall(ignore_deletes=True)
        found: dict[str, Any] = {}
        async for entry in watcher:
            if entry is None:
                break
            found[entry.key] = json.loads(entry.value or b"null")
        await watcher.stop()  # type: ignore[no-untyped-call]
        return found


async def expected_bucket(dsn: str) -> dict[str, Any]:
    """The rows of the KV views that are live, under their keys."""
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch(
        "SELECT agent_id::text, state_key, is_status, value FROM agents.kv WHERE live"
    )
    await connection.close()
    return {kv_key(row[0], None if row[2] else row[1]): json.loads(row[3]) for row in rows}
