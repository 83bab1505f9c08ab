"""Properties of every kind that RabbitMQ lets through: a good event is stored, a bad one is a
letter with all that came, and nothing stands still.
"""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import aio_pika
import aiormq
import asyncpg
import msgspec
import pytest

from penstock.schemas.catalogue import Catalogue
from penstock.worker.brokers.scope import Scope
from penstock.worker.rabbitmq import topology
from penstock.worker.rabbitmq.broker import queue_plans
from penstock.worker.rabbitmq.connection import connect, open_channel
from penstock.worker.rabbitmq.options import RabbitOptions, ReadingOptions
from penstock.worker.rabbitmq.properties import as_sent
from penstock.worker.rabbitmq.source import RabbitMqSource
from penstock.worker.settings.keys import load
from tests.integration.pipeline.test_malformed import HEARTBEAT, body
from tests.support.amqp import FLAGS, RawProperties, hostile
from tests.support.running import running, settings_for
from tests.support.waiting import PATIENCE, until

KINDS = ["quorum", pytest.param("classic", marks=pytest.mark.faults), "stream"]
QUEUE = "AGENT_STATE"


class Sent(msgspec.Struct):
    """What was published with each of the properties that the server let through."""

    taken: list[bytes]

    @property
    def stored(self) -> int:
        """Good events: what the content type says is believed."""
        return len(self.taken) - len(self._odd)

    @property
    def letters(self) -> list[bytes]:
        """The properties of all others: the bad ones, and the good ones of an odd type."""
        return sorted(as_sent(bytes(12) + sent) for sent in (*self.taken, *self._odd))

    @property
    def _odd(self) -> list[bytes]:
        typed = [one for one in self.taken if one[0] & FLAGS["content_type"] >> 8 and one[2]]
        return [sent for sent in typed if b"application/json" not in sent]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def control(rabbit_url: str, kind: str) -> AsyncIterator[aio_pika.RobustConnection]:
    settings = load({"rabbitmq_queue_type": kind}, environ={})
    connection = await connect(RabbitOptions(url=rabbit_url), name="test")
    await topology.provision(connection, queue_plans(Scope(settings, Catalogue.load())))
    yield connection
    await connection.close()


@pytest.fixture
async def sent(control: aio_pika.RobustConnection) -> Sent:
    """A good and a bad event with each."""
    return Sent([sent for sent in hostile() if await published(control, sent)])


async def published(control: aio_pika.RobustConnection, sent: bytes) -> bool:
    """False if the server refuses such properties."""
    await asyncio.wait_for(control.connected.wait(), PATIENCE)
    try:
        async with open_channel(control, confirms=True) as channel:
            for content in (body(), b"\xff" + uuid4().bytes):
                await channel.basic_publish(
                    content,
                    exchange=topology.EXCHANGE,
                    routing_key=HEARTBEAT,
                    properties=RawProperties(sent),
                    mandatory=True,
                )
    except aiormq.AMQPError:  # a stream queue translates them, and fails on some
        return False
    return True


@pytest.mark.parametrize("path", ["fast", "client"])
async def test_each_is_stored_or_a_letter_with_all_that_came(
    rabbit_url: str, database: str, kind: str, sent: Sent, path: str
) -> None:
    await check(rabbit_url, database, kind, sent, source_path=path)


@pytest.mark.parametrize("kind", KINDS[:2], indirect=True)
async def test_so_it_is_after_a_retry(
    rabbit_url: str, database: str, kind: str, control: aio_pika.RobustConnection, sent: Sent
) -> None:
    source = RabbitMqSource(
        control,
        RabbitOptions(url=rabbit_url),
        QUEUE,
        ReadingOptions(batch_size=1_000, batch_bytes=1 << 24, linger=0.2),
    )
    returned = 0
    async with source, asyncio.timeout(PATIENCE):
        while returned < 2 * len(sent.taken):
            batch = await source.fetch()
            returned += len(batch)
            await batch.nack(0.5)
        assert source._later == set(), "all are in a retry queue, none waits here"
    await check(rabbit_url, database, kind, sent)


async def check(url: str, database: str, kind: str, sent: Sent, **more: str) -> None:
    assert len(sent.taken) > 100
    settings = settings_for(
        "nats://127.0.0.1:1",
        database,
        brokers="rabbitmq",
        streams=QUEUE,
        rabbitmq_url=url,
        rabbitmq_queue_type=kind,
        kv="false",
        **more,
    )
    connection = await asyncpg.connect(database)

    async def letters() -> list[bytes]:
        found = await connection.fetch("SELECT raw_headers FROM bus.dead_letter")
        return sorted(raw for (raw,) in found)

    async def settled() -> bool:
        stored = await connection.fetchval("SELECT count(*) FROM agents.heartbeat")
        return len(await letters()) + int(stored) == 2 * len(sent.taken)

    async with running(settings):
        await until(settled, 60)
    if kind == "stream":  # which translates them
        assert len(await letters()) == len(sent.letters)
    else:
        assert await letters() == sent.letters
    assert await connection.fetchval("SELECT count(*) FROM agents.heartbeat") == sent.stored
    await connection.close()
