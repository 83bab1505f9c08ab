"""A mere heartbeat may wait for the bucket; whatever else changes and whatever ends, it arrives."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
from nats.js.client import JetStreamContext

from penstock.schemas.agents import AgentHeartbeat, AgentRegistered, AgentStatusChanged
from penstock.schemas.identity import entity_uuid, kv_key
from penstock.schemas.vocabulary import AgentStatus
from penstock.worker.publisher import Publisher
from penstock.worker.settings.keys import Settings
from tests.support.commands import said
from tests.support.connecting import connected, connection_to
from tests.support.mirror import bucket, expected_bucket
from tests.support.running import running, settings_for
from tests.support.waiting import until
from tests.support.workers import WorkerProcess, environment

AGENTS = [f"a-{n}" for n in range(5)]
NOT_IN_THIS_TEST = "10m"
_UNSETTLED = "SELECT count(*) FROM agents.heartbeat"


def key_of(agent: str) -> str:
    return kv_key(entity_uuid("agent", agent), None)


async def register(bus: Publisher, agents: Sequence[str] = AGENTS) -> None:
    for agent in agents:
        await bus.publish(AgentRegistered(agent_id=agent, name=agent, agent_type="coder"))


async def beat(bus: Publisher, settings: Settings, agents: Sequence[str] = AGENTS) -> None:
    """A heartbeat of each agent, stored and acknowledged."""
    async with connection_to(settings.postgres_dsn) as connection:
        before = await connection.fetchval(_UNSETTLED)
        for agent in agents:
            await bus.publish(AgentHeartbeat(agent_id=agent))
        await until(lambda: _stored(connection, before + len(agents)))
    async with connected(settings.nats_url) as client:
        await until(lambda: _acknowledged(client.jetstream()))


async def _stored(connection: asyncpg.Connection, count: int) -> bool:
    return bool(await connection.fetchval(_UNSETTLED) >= count)


async def _acknowledged(js: JetStreamContext) -> bool:
    found = await js.consumer_info("AGENT_STATE", "penstock")
    return not found.num_ack_pending and not found.num_pending


async def both(settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    return await bucket(settings.nats_url), await expected_bucket(settings.postgres_dsn)


async def equal(settings: Settings) -> bool:
    held, wanted = await both(settings)
    return len(held) > 0 and held == wanted


async def puts(settings: Settings) -> int:
    """How many puts the bucket has ever seen."""
    async with connected(settings.nats_url) as client:
        return int((await client.jetstream().stream_info("KV_AGENT_STATE")).state.last_seq)


async def test_a_heartbeat_waits_and_another_change_takes_it_along(
    nats_url: str, database: str
) -> None:
    settings = settings_for(nats_url, database, kv_status_interval=NOT_IN_THIS_TEST)
    async with running(settings), Publisher(nats_url, source="/tests") as bus:
        await register(bus)
        await until(lambda: equal(settings))
        before = await puts(settings)
        for _ in range(3):
            await beat(bus, settings)
        assert await puts(settings) == before, "nothing but heartbeats"
        changed = AgentStatusChanged(agent_id=AGENTS[0], status=AgentStatus.BUSY)
        await bus.publish(changed, sequence=1)

        async def shown() -> bool:
            held = (await bucket(nats_url))[key_of(AGENTS[0])]["val"]
            return bool(held["status"] == "busy" and held["last_heartbeat"])

        await until(shown)
        held, wanted = await both(settings)
        assert held[key_of(AGENTS[0])] == wanted[key_of(AGENTS[0])]
        assert held[key_of(AGENTS[1])]["val"]["last_heartbeat"] is None
        assert await puts(settings) == before + 1
    assert await equal(settings), "a worker that stops leaves nothing behind"


async def test_several_workers_put_an_agent_once_per_interval_each_and_end_equal(
    nats_url: str, database: str
) -> None:
    interval = 1.0
    settings = settings_for(nats_url, database, kv_status_interval=f"{interval}s", batch_size="7")
    async with (
        running(settings),
        running(settings),
        Publisher(nats_url, source="/tests") as bus,
    ):
        await register(bus)
        await until(lambda: equal(settings))
        before, begun = await puts(settings), time.monotonic()
        for _ in range(20):
            await asyncio.gather(*(bus.publish(AgentHeartbeat(agent_id=one)) for one in AGENTS))
        await beat(bus, settings)
        found = await said(settings, "verify", "--pause", "0.3", code=0)
        assert found["clean"], "what may still be on its way is not wrong"
        await until(lambda: equal(settings))
        intervals = (time.monotonic() - begun) / (interval * 0.9) + 1
        assert await puts(settings) - before <= len(AGENTS) * 2 * intervals


async def test_what_a_killed_worker_put_off_is_found_by_the_next_one(
    nats_url: str, database: str, tmp_path: Path
) -> None:
    settings = settings_for(nats_url, database)
    lazy = environment(nats_url, database, kv_status_interval=NOT_IN_THIS_TEST)
    worker = WorkerProcess(lazy, tmp_path / "worker.log")
    async with worker, Publisher(nats_url, source="/tests") as bus:
        await worker.start()
        await until(lambda: worker.said("bucket_reconciled"))
        await register(bus)
        await until(lambda: equal(settings))
        await beat(bus, settings)
        await worker.kill()
        assert not await equal(settings)
        await worker.start()
        await until(lambda: equal(settings))
        assert await worker.stop() == 0
