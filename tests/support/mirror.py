"""What a bucket holds, and what it should hold according to PostgreSQL."""

import json
from typing import Any

import asyncpg
import nats


async def bucket(url: str, name: str = "AGENT_STATE") -> dict[str, Any]:
    """Every key of a bucket with its document, read key by key, because nats-py's watcher may
    report an empty bucket when it has just begun.
    """
    prefix = f"$KV.{name}."
    found: dict[str, Any] = {}
    async with await nats.connect(url) as nc:
        js = nc.jetstream()
        info = await js.stream_info(f"KV_{name}", subjects_filter=f"{prefix}>")
        for subject in info.state.subjects or {}:
            last = await js.get_last_msg(f"KV_{name}", subject, direct=True)
            if "KV-Operation" not in (last.headers or {}):
                found[subject.removeprefix(prefix)] = json.loads(last.data or b"null")
    return found


async def expected_bucket(dsn: str) -> dict[str, Any]:
    """The live rows of the KV views, by key."""
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch("SELECT key, value FROM agents.kv WHERE live")
    await connection.close()
    return {key: json.loads(value) for key, value in rows}
