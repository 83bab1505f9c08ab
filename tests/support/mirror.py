"""What a bucket holds, and what it should hold according to PostgreSQL."""

import json
from collections.abc import Iterable
from typing import Any

import asyncpg
import nats

from penstock.schemas.catalogue import HydratedView

_AGENTS = HydratedView("agents.kv", "AGENT_STATE", ())


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


async def buckets(url: str, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The same of several buckets, by name."""
    return {name: await bucket(url, name) for name in names}


async def expected_bucket(dsn: str) -> dict[str, Any]:
    """The live rows of the agents' KV views, by key."""
    return (await expected_buckets(dsn, [_AGENTS]))[_AGENTS.bucket]


async def expected_buckets(dsn: str, views: Iterable[HydratedView]) -> dict[str, dict[str, Any]]:
    """The live rows of hydrated views, by bucket and key."""
    found: dict[str, dict[str, Any]] = {}
    connection = await asyncpg.connect(dsn)
    for view in views:
        query = f"SELECT key, value FROM {view.name} WHERE live"
        rows = await connection.fetch(query)
        found.setdefault(view.bucket, {}).update({key: json.loads(value) for key, value in rows})
    await connection.close()
    return found
