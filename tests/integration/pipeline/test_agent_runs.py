"""13 real runs of a software-engineering agent: every event once, last state, KV as PostgreSQL."""

import json
import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from penstock.worker.commands.one_worker import run
from penstock.worker.commands.publish import publish_file
from tests.support.mirror import bucket, expected_bucket
from tests.support.rows import snapshot
from tests.support.running import settings_for

RUNS = Path(
    os.environ.get(
        "PENSTOCK_TEST_AGENT_RUNS",
        Path(__file__).parents[3].parent / "shared" / "data" / "agent-runs.ndjson",
    )
)
pytestmark = pytest.mark.skipif(not RUNS.exists(), reason=f"{RUNS} is not here")


def events() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RUNS.read_text().splitlines()]


@pytest.fixture(params=["nats", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> dict[str, str]:
    """Settings of the broker that carries the events; NATS holds the bucket of both."""
    if request.param == "nats":
        return {}
    return {"brokers": "rabbitmq", "rabbitmq_url": request.getfixturevalue("rabbit_url")}


async def test_real_agent_runs(nats_url: str, database: str, broker: dict[str, str]) -> None:
    settings = settings_for(
        nats_url, database, window_past="unlimited", outbox="false", **broker
    )  # which would send what follows
    sent = events()
    assert await publish_file(settings, str(RUNS), None) == 0
    assert await run(settings, until_idle=1.0) == 0

    connection = await asyncpg.connect(database)
    rows = await snapshot(connection)
    await check_history(connection, sent)
    await check_state(connection, sent)
    held = await bucket(nats_url)
    assert held == await expected_bucket(database)
    assert len([key for key in held if not key.endswith("._status")]) == 13

    assert await publish_file(settings, str(RUNS), None, again=True) == 0
    assert await run(settings, until_idle=1.0) == 0
    assert await snapshot(connection) == rows
    assert await bucket(nats_url) == held
    assert await connection.fetchval("SELECT count(*) FROM bus.dead_letter") == 0
    assert await connection.fetchval("SELECT count(*) FROM bus.gap") == 0
    await connection.close()


async def check_history(connection: asyncpg.Connection, sent: list[dict[str, Any]]) -> None:
    """Every event once, in the history of its type."""
    stored: Counter[str] = Counter()
    for table in ("events.log", "agents.heartbeat"):
        for (event_id,) in await connection.fetch(f"SELECT event_id::text FROM {table}"):
            stored[event_id] += 1
    messages = [event for event in sent if event["type"] == "messages.sent"]
    others = [event for event in sent if event["type"] != "messages.sent"]
    assert stored == Counter(event["id"] for event in others)
    found = await connection.fetch(
        "SELECT message_id::text, created_event::text FROM messages.message"
    )
    assert len(messages) == len(found) == 270
    assert {tuple(row) for row in found} == {(e["data"]["message_id"], e["id"]) for e in messages}


async def check_state(connection: asyncpg.Connection, sent: list[dict[str, Any]]) -> None:
    """13 agents, 13 tasks with their last status, 13 state keys at their highest version."""
    assert await connection.fetchval("SELECT count(*) FROM agents.agent WHERE NOT is_stub") == 13
    assert await connection.fetchval("SELECT count(*) FROM agents.agent WHERE is_stub") == 0
    status: dict[str, tuple[int, str]] = {}
    version: dict[str, int] = defaultdict(int)
    for event in sent:
        key, sequence = event["subject"], event.get("sequence", 0)
        if event["type"] in ("tasks.created", "tasks.updated"):
            new = (sequence, event["data"].get("status", "pending"))
            status[key] = max(status.get(key, (-1, "")), new, key=lambda pair: pair[0])
        elif event["type"] == "agents.state_set":
            version[key] = max(version[key], sequence)
    tasks = await connection.fetch("SELECT task_id::text, status FROM tasks.task")
    assert {row[0]: row[1] for row in tasks} == {key: last for key, (_, last) in status.items()}
    states = await connection.fetch("SELECT agent_id::text, version FROM agents.state")
    assert {row[0]: row[1] for row in states} == version
    assert len(tasks) == len(states) == 13
