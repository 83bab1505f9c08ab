"""A worker of a stream queue that ends in its first second: nothing is known yet but its anchor.

The first batch is held up by a row that somebody else has locked, the ones after it commit. In
every other round nothing is locked, and batches commit in whatever order they like.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from penstock.schemas.agents import AgentHeartbeat
from penstock.schemas.catalogue import Catalogue
from penstock.schemas.identity import entity_uuid
from penstock.worker.brokers.scope import Scope
from penstock.worker.publisher import Publisher
from penstock.worker.publisher.encoding import uuid7
from penstock.worker.rabbitmq import topology
from penstock.worker.rabbitmq.broker import queue_plans
from penstock.worker.rabbitmq.connection import connect
from penstock.worker.rabbitmq.options import RabbitOptions
from penstock.worker.settings.keys import load
from tests.support.waiting import until
from tests.support.workers import WorkerProcess, environment

EVENTS = 400
HELD = "held"
ROUNDS = 25


@pytest.fixture
async def published(rabbit_url: str) -> set[str]:
    """The ids of what a stream queue holds. The first events are about one agent."""
    settings = load({"rabbitmq_queue_type": "stream"}, environ={})
    control = await connect(RabbitOptions(url=rabbit_url), name="test")
    await topology.provision(control, queue_plans(Scope(settings, Catalogue.load())))
    await control.close()
    chosen = [uuid7() for _ in range(EVENTS)]
    async with Publisher(rabbit_url, source="/test") as bus:
        for number, one in enumerate(chosen):
            agent = HELD if number < 10 else f"a-{number}"
            await bus.publish_soon(AgentHeartbeat(agent_id=agent), id=one)
        await bus.flush()
    return set(chosen)


class Tables:
    """What the workers have stored."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def empty(self) -> None:
        await self._pool.execute("TRUNCATE bus.position, bus.crash_marker, agents.heartbeat")
        await self._pool.execute("DELETE FROM agents.agent")

    async def stored(self) -> set[str]:
        rows = await self._pool.fetch("SELECT event_id::text FROM agents.heartbeat")
        return {found for (found,) in rows}

    async def reading(self) -> bool:
        """Where reading begins is committed."""
        return bool(await self._pool.fetchval("SELECT count(*) FROM bus.position"))

    async def overtaken(self) -> bool:
        """A batch is committed, and one before it is not."""
        return bool(await self._pool.fetchval("SELECT count(*) FROM bus.gap"))

    @asynccontextmanager
    async def holding(self) -> AsyncIterator[None]:
        """Somebody is about to insert the agent of the first batch."""
        async with self._pool.acquire() as connection:
            held = connection.transaction()
            await held.start()
            key = entity_uuid("agent", HELD)
            await connection.execute("INSERT INTO agents.agent (agent_id) VALUES ($1)", key)
            try:
                yield
            finally:
                await held.rollback()


@pytest.fixture
async def tables(database: str) -> AsyncIterator[Tables]:
    async with asyncpg.create_pool(database, min_size=1, max_size=3) as pool:
        yield Tables(pool)


@pytest.fixture
async def worker(rabbit_url: str, database: str, tmp_path: Path) -> AsyncIterator[WorkerProcess]:
    given = environment(
        "nats://127.0.0.1:1",
        database,
        brokers="rabbitmq",
        streams="AGENT_STATE",
        rabbitmq_url=rabbit_url,
        rabbitmq_queue_type="stream",
        kv="false",
        batch_size="20",
        lock_timeout="500ms",
    )
    async with WorkerProcess(given, tmp_path / "worker.log") as process:
        yield process


@pytest.mark.faults
@pytest.mark.parametrize("killed", [False, True], ids=["SIGTERM", "SIGKILL"])
async def test_nothing_is_lost(
    published: set[str], tables: Tables, worker: WorkerProcess, *, killed: bool
) -> None:
    overtaken = 0
    for number in range(ROUNDS):
        await tables.empty()
        await worker.start()
        if number % 2:
            await until(tables.reading, 30)
            await until(partial(passed, time.monotonic() + number / ROUNDS))
            await end(worker, killed=killed)
        else:
            async with tables.holding():
                await until(tables.overtaken, 30)
                await end(worker, killed=killed)
        overtaken += await tables.overtaken()
        await worker.start("--until-idle", "0.3")
        assert await worker.wait(60) == 0
        assert await tables.stored() == published
        assert not await tables.overtaken()
    found = f"{ROUNDS} ends in the first second, {overtaken} of them with a gap"
    print(f"\n{found}; {EVENTS} events stored each time")  # noqa: T201  (for whoever runs faults)
    assert overtaken >= ROUNDS // 2


async def passed(moment: float) -> bool:
    return time.monotonic() >= moment


async def end(worker: WorkerProcess, *, killed: bool) -> None:
    if killed:
        await worker.kill()
    else:
        assert await worker.stop() == 0
