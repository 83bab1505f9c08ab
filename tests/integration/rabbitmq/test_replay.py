"""A stream queue of RabbitMQ read again, from an offset or a time, by ``penstock run``."""

import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from penstock.schemas.agents import AgentHeartbeat
from penstock.schemas.catalogue import Catalogue
from penstock.worker.brokers.scope import Scope
from penstock.worker.publisher import Publisher
from penstock.worker.publisher.encoding import uuid7
from penstock.worker.rabbitmq import topology as rabbitmq_topology
from penstock.worker.rabbitmq.broker import queue_plans
from penstock.worker.rabbitmq.connection import connect
from penstock.worker.rabbitmq.options import RabbitOptions
from penstock.worker.settings.keys import load
from tests.support.relay import Relay
from tests.support.waiting import until
from tests.support.workers import WorkerProcess, environment

STREAM = "AGENT_STATE"
LONG = pytest.mark.faults
COUNTS = pytest.mark.parametrize("count", [5_000, pytest.param(50_000, marks=LONG)])
ENDINGS = pytest.mark.parametrize(
    "killed", [pytest.param(False, marks=LONG), True], ids=["cut", "killed"]
)
_COMMITTED = """
SELECT count(*), min(lower(span)), sum(upper(span) - lower(span))
FROM (SELECT unnest(range_agg(seqs)) AS span FROM bus.position WHERE stream = $1) AS found
"""
"""How many stretches of offsets are committed, where the first begins, and how many they are."""

DELIVERED_BYTES = 300
"""Of a heartbeat at least, with what AMQP puts around it."""


class Log:
    """The stream queues, and what was published to one of them, in its order."""

    def __init__(self, url: str, bus: Publisher) -> None:
        self.url = url
        self.ids: list[str] = []
        self._bus = bus

    async def publish(self, count: int) -> None:
        chosen = [uuid7() for _ in range(count)]
        for one in chosen:
            await self._bus.publish_soon(AgentHeartbeat(agent_id=f"a-{one[-2:]}"), id=one)
        await self._bus.flush()
        self.ids += chosen

    async def next_second(self) -> datetime:
        """The server knows times in whole seconds. Returns one that parts what is published."""
        begun = int(time.time())
        await until(lambda: _later_than(begun + 1))
        return datetime.fromtimestamp(begun + 1, UTC)


async def _later_than(second: int) -> bool:
    return time.time() >= second


@pytest.fixture
async def stream(rabbit_url: str) -> AsyncIterator[Log]:
    """Empty stream queues."""
    settings = load({"rabbitmq_queue_type": "stream"}, environ={})
    control = await connect(RabbitOptions(url=rabbit_url), name="test")
    await rabbitmq_topology.provision(control, queue_plans(Scope(settings, Catalogue.load())))
    await control.close()
    async with Publisher(rabbit_url, source="/test") as bus:
        yield Log(rabbit_url, bus)


class Reading:
    """Runs of ``penstock run --until-idle`` into one database, by way of a relay."""

    def __init__(self, stream: Log, relay: Relay, database: str, log: Path) -> None:
        url = stream.url.replace(f":{urlsplit(stream.url).port}", f":{relay.port}")
        self._relay = relay
        self._database = database
        self._log = log
        self._settings = environment(
            "nats://127.0.0.1:1",
            database,
            brokers="rabbitmq",
            rabbitmq_url=url,
            rabbitmq_queue_type="stream",
            kv="false",
            outbox="false",
            batch_size="500",
            log_format="json",
        )

    async def run(self, start: object = None, *, cut_after: int = 0, killed: bool = False) -> None:
        """From ``start`` until nothing is left, with the connection cut on the way.

        With ``killed`` that is the end of the process too, and another one is started.
        """
        given = {} if start is None else {"PENSTOCK_RABBITMQ_STREAM_FROM": str(start)}
        cuts = self._relay.cuts
        async with WorkerProcess(self._settings | given, self._log) as worker:
            if cut_after:
                self._relay.cut_after(cut_after)
            await worker.start("--until-idle", "0.5")
            if cut_after:
                await until(lambda: self._cut_since(cuts))
            if killed:
                await worker.kill()
                await worker.start("--until-idle", "0.5")
            assert await worker.wait(300) == 0, self._log.read_text()[-2000:]

    async def _cut_since(self, before: int) -> bool:
        return self._relay.cuts > before

    async def stored(self) -> list[str]:
        """Ids of the rows, each as often as it is there."""
        rows = await self.fetch("SELECT event_id FROM agents.heartbeat")
        return [str(found) for (found,) in rows]

    async def offsets(self) -> str:
        """What is committed of the stream: ``{[first,after)}`` if there is no gap."""
        query = "SELECT range_agg(seqs)::text FROM bus.position WHERE stream = $1"
        [(found,)] = await self.fetch(query, STREAM)
        return str(found)

    def messages(self) -> int:
        """How many all runs have dealt with, those that came again too."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines()]
        return sum(line["messages"] for line in lines if line["event"] == "batch_written")

    async def execute(self, query: str) -> None:
        await self.fetch(query)

    async def fetch(self, query: str, *values: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self._database)
        try:
            found: list[asyncpg.Record] = await connection.fetch(query, *values)
        finally:
            await connection.close()
        return found


@pytest.fixture
async def reading(stream: Log, database: str, tmp_path: Path) -> AsyncIterator[Reading]:
    """Into an empty database."""
    port = urlsplit(stream.url).port
    assert port is not None
    async with Relay(port) as relay:
        yield Reading(stream, relay, database, tmp_path / "worker.log")


@LONG
@COUNTS
@ENDINGS
async def test_from_an_offset_into_an_empty_database(
    stream: Log, reading: Reading, count: int, *, killed: bool
) -> None:
    await stream.publish(count)
    half = count // 2
    await reading.run(half, cut_after=half // 2 * DELIVERED_BYTES, killed=killed)
    assert sorted(await reading.stored()) == sorted(stream.ids[half:])
    assert await reading.offsets() == f"{{[{half},{count})}}"
    assert (await reading.fetch("SELECT count(*) FROM bus.dead_letter"))[0][0] == 0


@COUNTS
@ENDINGS
async def test_from_a_time_into_an_empty_database(
    stream: Log, reading: Reading, count: int, *, killed: bool
) -> None:
    half = count // 2
    await stream.publish(half)
    moment = await stream.next_second()
    await stream.publish(half)
    await reading.run(moment.isoformat(), cut_after=half // 2 * DELIVERED_BYTES, killed=killed)
    assert sorted(await reading.stored()) == sorted(stream.ids[half:])
    [(ranges, first, read)] = await reading.fetch(_COMMITTED, STREAM)
    # A slow server confirms so late that the publisher sends a message again, into the stream too.
    assert (ranges, first >= half, read >= half) == (1, True, True)


async def test_a_time_within_a_second_brings_that_whole_second(
    stream: Log, reading: Reading
) -> None:
    await stream.publish(10)
    await stream.next_second()
    while True:
        begun = time.time()
        await stream.publish(1)
        moment = time.time()
        await stream.publish(1)
        if int(time.time()) == int(begun):
            break  # both went out and were stored within one second
        await stream.next_second()
    await reading.run(datetime.fromtimestamp(moment, UTC).isoformat())
    assert sorted(await reading.stored()) == sorted(stream.ids[-2:]), (
        "the one before the moment comes too, and none of an earlier second"
    )


@pytest.mark.faults
async def test_a_time_after_the_last_event_begins_with_the_next_one(
    stream: Log, reading: Reading
) -> None:
    await stream.publish(10)
    moment = await stream.next_second()
    await reading.run(moment.isoformat())
    assert await reading.stored() == []
    await stream.publish(5)
    await reading.run(moment.isoformat())
    assert sorted(await reading.stored()) == sorted(stream.ids[10:])


@pytest.mark.faults
async def test_afterwards_reading_goes_on_where_the_replay_ended(
    stream: Log, reading: Reading
) -> None:
    await stream.publish(100)
    await reading.run(60)
    await stream.publish(5)
    await reading.run()
    assert sorted(await reading.stored()) == sorted(stream.ids[60:])
    assert reading.messages() == 45


@pytest.mark.faults
async def test_the_start_that_is_given_goes_before_the_offset_that_is_stored(
    stream: Log, reading: Reading
) -> None:
    await stream.publish(100)
    await reading.run()
    await reading.execute("DELETE FROM agents.heartbeat")
    await reading.run()
    assert await reading.stored() == []
    await reading.run(40)
    assert sorted(await reading.stored()) == sorted(stream.ids[40:])
    assert await reading.offsets() == "{[0,100)}"


@pytest.mark.faults
async def test_what_lies_before_the_replay_is_read_once_no_start_is_given(
    stream: Log, reading: Reading
) -> None:
    await stream.publish(100)
    await reading.run(40)
    await reading.execute(
        "INSERT INTO bus.position (transport, stream, seqs) "
        "VALUES ('rabbitmq', 'AGENT_STATE', '{[0,10)}')"
    )
    await reading.run()
    assert sorted(await reading.stored()) == sorted(stream.ids[10:])
