"""A worker on RabbitMQ as its operator sees it: backlog, health, drain."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.schemas.agents import AgentHeartbeat
from penstock.worker.embedded.rabbitmq import EmbeddedRabbit
from penstock.worker.publisher import Publisher
from tests.conftest import empty_rabbit
from tests.support.rabbitmq import stream_queues_on_disk
from tests.support.waiting import until
from tests.support.workers import WorkerProcess, environment

KINDS = (
    "quorum",
    pytest.param("classic", marks=pytest.mark.faults),
    pytest.param("stream", marks=pytest.mark.faults),
)
SOURCE = "source AGENT_STATE"


def settings_for(url: str, dsn: str, kind: str, **more: str) -> Mapping[str, str]:
    rabbit = {"brokers": "rabbitmq", "rabbitmq_url": url, "rabbitmq_queue_type": kind}
    given = {**rabbit, "streams": "AGENT_STATE", "kv": "false", "log_format": "json", **more}
    return environment("nats://127.0.0.1:1", dsn, **given)


async def publish(url: str, count: int) -> None:
    async with Publisher(url, source="/test") as bus:
        sent = [await bus.publish_soon(AgentHeartbeat(agent_id=f"a-{n}")) for n in range(count)]
        await asyncio.gather(*sent)


async def stored(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM agents.heartbeat"))
    finally:
        await connection.close()


class Watched:
    """What the worker says of itself on its port."""

    def __init__(self, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}"

    async def check(self, name: str) -> str | None:
        """None while nobody answers."""
        try:
            answer = json.loads(await self._get("/readyz"))
        except aiohttp.ClientError:
            return None
        return str(answer["checks"][name])

    async def metric(self, name: str) -> float:
        families = text_string_to_metric_families(await self._get("/metrics"))
        return sum(s.value for family in families for s in family.samples if s.name == name)

    async def _get(self, path: str) -> str:
        async with aiohttp.ClientSession() as session, session.get(self._address + path) as answer:
            return await answer.text()


@asynccontextmanager
async def working(
    settings: Mapping[str, str], log: Path, port: int
) -> AsyncIterator[tuple[WorkerProcess, Watched]]:
    async with WorkerProcess({**settings, "PENSTOCK_HTTP_PORT": str(port)}, log) as worker:
        watched = Watched(port)
        await worker.start()
        await until(lambda: says(watched, "ok"))
        yield worker, watched


async def says(watched: Watched, text: str) -> bool:
    return text in (await watched.check(SOURCE) or "")


@pytest.mark.parametrize("kind", [pytest.param("quorum", marks=pytest.mark.faults), "stream"])
async def test_the_backlog_shows_while_postgresql_holds_it_up(
    rabbit_url: str, database: str, tmp_path: Path, free_port: int, kind: str
) -> None:
    settings = settings_for(rabbit_url, database, kind, batch_size="20", in_flight="2")
    blocker = await asyncpg.connect(database)
    async with working(settings, tmp_path / "log", free_port) as (worker, watched):
        async with blocker.transaction():
            await blocker.execute("LOCK TABLE agents.heartbeat")
            await publish(rabbit_url, 499)
            # Of the last chunk of a stream one message is counted: let it have one.
            await publish(rabbit_url, 1)
            await until(lambda: backlog(watched, 500))
        await until(lambda: backlog(watched, 0))
        assert await worker.stop() == 0
    await blocker.close()
    assert await stored(database) == 500


async def backlog(watched: Watched, total: int) -> bool:
    """True if so many wait, no more of them here than about three batches; a stream may give a few
    more than it was asked for.
    """
    pending = await watched.metric("penstock_lag_pending")
    held = await watched.metric("penstock_lag_ack_pending")
    return pending + held == total and min(60, total) <= held <= 120


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["quorum", "stream"])
async def test_health_is_red_while_rabbitmq_is_away_and_green_again(
    shaky_rabbit: EmbeddedRabbit, database: str, tmp_path: Path, free_port: int, kind: str
) -> None:
    await empty_rabbit(shaky_rabbit.url)
    settings = settings_for(shaky_rabbit.url, database, kind)
    async with working(settings, tmp_path / "log", free_port) as (worker, watched):
        await publish(shaky_rabbit.url, 10)
        await stream_queues_on_disk()
        shaky_rabbit.kill()
        try:
            await until(lambda: says(watched, "rabbitmq is away or silent"))
            await until(lambda: unhealthy(watched))
        finally:
            await shaky_rabbit.restart()
        await until(lambda: says(watched, "ok"))
        assert await watched.metric("penstock_server_healthy") == 1
        await publish(shaky_rabbit.url, 10)

        async def all_stored() -> bool:
            return await stored(database) == 20

        await until(all_stored)
        assert await worker.stop() == 0


async def unhealthy(watched: Watched) -> bool:
    return await watched.metric("penstock_source_healthy") == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_a_drain_under_load_gives_nothing_back_that_is_stored(
    rabbit_url: str, database: str, tmp_path: Path, free_port: int, kind: str
) -> None:
    log = tmp_path / "log"
    settings = settings_for(rabbit_url, database, kind, batch_size="100")
    async with working(settings, log, free_port) as (worker, _):
        publishing = asyncio.create_task(publish_while(rabbit_url, worker))
        await until(lambda: under_way(database))
        assert await worker.stop() == 0
        count = await publishing
        assert await stored(database) < count, "it was to be stopped in the middle"
        await worker.start("--until-idle", "0.3")
        assert await worker.wait(120) == 0
    assert await stored(database) == count
    batches = [json.loads(line) for line in log.read_text().splitlines() if "batch_written" in line]
    assert sum(batch["new"] for batch in batches) == count
    assert sum(batch["duplicate"] for batch in batches) == 0


async def publish_while(url: str, worker: WorkerProcess) -> int:
    """Publish as long as the worker runs, and once more; how many events."""
    count = 0
    while worker.running:
        await publish(url, 500)
        count += 500
    await publish(url, 500)
    return count + 500


async def under_way(dsn: str) -> bool:
    return await stored(dsn) > 500
