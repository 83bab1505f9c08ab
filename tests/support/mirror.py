"""The bucket, and what PostgreSQL says that it should hold."""

import json
from typing import Any

import asyncpg
import nats

from penstock.schemas.identity import kv_key


async def bucket(url: str) -> dict[str, Any]:
    """Every key of the bucket with its document, read key by key: nats-py's watcher may say that
    there is nothing when it has only just begun.
    """
    prefix = "$KV.AGENT_STATE."
    found: dict[str, Any] = {}
    async with await nats.connect(url) as nc:
        js = nc.jetstream()
        info = await js.stream_info("KV_AGENT_STATE", subjects_filter=f"{prefix}>")
        for subject in info.state.subjects or {}:
            last = await js.get_last_msg("KV_AGENT_STATE", subject, direct=True)
            if "KV-Operation" not in (last.headers or {}):
                found[subject.removeprefix(prefix)] = json.loads(last.data or b"null")
    return found


async def expected_bucket(dsn: str) -> dict[str, Any]:
    """The rows of the KV views that are live, under their keys."""
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch(
        "SELECT agent_id::text, state_key, is_status, value FROM agents.kv WHERE live"
    )
    await connection.close()
    return {kv_key(row[0], None if row[2] else row[1]): json.loads(row[3]) for row in rows}
