"""The outbox while the worker that relays is killed, or stopped until it loses its turn."""

import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from penstock.worker.embedded import EmbeddedNats, EmbeddedPostgres
from penstock.worker.embedded.rabbitmq import EmbeddedRabbit
from tests.support.killed_relays import Run
from tests.support.outbox import NatsTap, RabbitTap, Tap, insert, waiting
from tests.support.roles import migrated_by_its_owner
from tests.support.waiting import until
from tests.support.workers import WorkerProcess, environment

pytestmark = pytest.mark.faults


class Scene(msgspec.Struct):
    nats_url: str
    dsn: str
    given: Mapping[str, str]
    tap: Tap


@pytest_asyncio.fixture(params=["nats", "rabbitmq"])
async def scene(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    """Servers of their own, as they are run."""
    async with EmbeddedNats() as bus, EmbeddedPostgres() as postgres, AsyncExitStack() as stack:
        dsn = await postgres.create_database("penstock")
        await migrated_by_its_owner(dsn)
        given: dict[str, str] = {}
        tap: Any = NatsTap(bus.url)
        if request.param == "rabbitmq":
            rabbit = await stack.enter_async_context(EmbeddedRabbit())
            given = {"brokers": "rabbitmq", "rabbitmq_url": rabbit.url}
            tap = RabbitTap(rabbit.url)
        await stack.enter_async_context(tap)
        yield Scene(bus.url, dsn, given, tap)


async def test_ten_thousand_rows_and_five_kills(scene: Scene, tmp_path: Path) -> None:
    run = Run(scene.nats_url, scene.dsn, scene.given, tmp_path / "worker.log")
    await run.work(rows=10_000, kills=5, seed=11)
    figures = await run.check(scene.tap)
    print(f"outbox {scene.given.get('brokers', 'nats')}: {figures}")


async def test_a_worker_that_is_stopped_loses_its_turn(scene: Scene, tmp_path: Path) -> None:
    """And when it goes on, nothing of what the other has sent meanwhile is stored twice."""
    client = await asyncpg.connect(scene.dsn)
    settings = environment(scene.nats_url, scene.dsn, kv="false", **scene.given)
    stopped = WorkerProcess(settings, tmp_path / "stopped.log")
    other = WorkerProcess(settings, tmp_path / "other.log")
    async with stopped, other:
        await stopped.start()
        await until(lambda: stopped.said("outbox_turn_taken"))
        await other.start()
        await until(lambda: other.said("worker_started"))
        os.kill(stopped.pid, signal.SIGSTOP)
        sent = [await insert(client, "t-1", number) for number in range(50)]
        await until(lambda: _none_waits(scene.dsn), 90)
        assert other.said("outbox_turn_taken")
        os.kill(stopped.pid, signal.SIGCONT)
        await until(lambda: stopped.said("outbox_interrupted"))
        sent += [await insert(client, "t-1", number) for number in range(50, 60)]
        await until(lambda: _none_waits(scene.dsn))
        query = "SELECT count(*) FROM events.log"
        await until(lambda: _is(client.fetchval(query), len(sent)))
    assert [event.id for event in await scene.tap.heard()] == sent
    await client.close()


async def _none_waits(dsn: str) -> bool:
    return await waiting(dsn) == 0


async def _is(found: Any, wanted: object) -> bool:
    assert await found == wanted
    return True
