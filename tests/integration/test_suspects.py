"""A message that ends workers is found and kept; an outage makes no good event suspect."""

import asyncio
import json
from pathlib import Path

import asyncpg
import nats

from tests.integration.test_malformed import HEARTBEAT, body
from tests.running import until
from tests.workers import WorkerProcess, environment
from worker.embedded import EmbeddedPostgres
from worker.migrate import up

_DEADLY = """
import os, worker.decode, worker.cli
usual = worker.decode.Decoder.decode
def decode(self, message):
    if b"deadly" in message.body:
        os._exit(9)
    return usual(self, message)
worker.decode.Decoder.decode = decode
worker.cli.main()
"""
"""A worker that dies of certain messages, as it would of one that takes all memory."""


async def published(url: str, *bodies: bytes) -> None:
    async with await nats.connect(url) as nc:
        for one in bodies:
            await nc.jetstream().publish(HEARTBEAT, one)


async def counts(dsn: str) -> tuple[int, list[str]]:
    """Stored heartbeats, and the reasons of the dead letters."""
    connection = await asyncpg.connect(dsn)
    stored = await connection.fetchval("SELECT count(*) FROM agents.heartbeat")
    letters = await connection.fetch("SELECT reason FROM bus.dead_letter")
    await connection.close()
    return stored, [row[0] for row in letters]


async def test_a_message_that_ends_workers_becomes_a_dead_letter(
    nats_url: str, database: str, tmp_path: Path
) -> None:
    settings = environment(
        nats_url, database, ack_wait="1s", heartbeat="300ms", watch_after="1", max_crashes="2"
    )
    async with WorkerProcess(settings, tmp_path / "log", program=("-c", _DEADLY)) as worker:
        await worker.start("--until-idle", "0.1")
        assert await worker.wait(30) == 0
        deadly = json.dumps({**json.loads(body()), "source": "deadly"}).encode()
        await published(nats_url, body(), deadly, body(), body())
        deaths = 0
        while True:
            await worker.start("--until-idle", "2")
            if await worker.wait(60) == 0:
                break
            deaths += 1
            assert deaths < 10
    assert await counts(database) == (3, ["crashes_workers"])
    assert deaths >= 2


async def test_an_outage_makes_no_dead_letters(nats_url: str, tmp_path: Path) -> None:
    async with EmbeddedPostgres(settings={"fsync": "off"}) as postgres:
        dsn = await postgres.create_database("penstock")
        await up(dsn)
        settings = environment(
            nats_url, dsn, retry_for="100ms", nack_delay="100ms", watch_after="1", max_crashes="1"
        )
        async with WorkerProcess(settings, tmp_path / "log") as worker:
            await worker.start()
            await until(lambda: asyncio.to_thread(started, tmp_path / "log"))
            postgres.kill()
            await published(nats_url, *[body() for _ in range(50)])
            await until(lambda: delivered_often(nats_url, 5), 30)
            await postgres.restart()

            async def recovered() -> bool:
                return (await counts(dsn))[0] == 50

            await until(recovered, 30)
            assert await counts(dsn) == (50, [])
            assert await worker.stop() == 0


def started(log: Path) -> bool:
    return "worker_started" in log.read_text()


async def delivered_often(url: str, times: int) -> bool:
    """True once the consumer has delivered 50 messages that often on average."""
    async with await nats.connect(url) as nc:
        info = await nc.jetstream().consumer_info("AGENT_STATE", "penstock")
        assert info.delivered is not None
        return bool(info.delivered.consumer_seq >= 50 * times)
