"""What RabbitMQ itself gave up: it becomes a letter, and an event once it is requeued."""

import aio_pika
import asyncpg
import msgspec

from penstock.worker.commands.provision import provision
from penstock.worker.commands.requeue import Correction, requeue
from penstock.worker.postgres.letter_box import Filter
from tests.integration.pipeline.test_malformed import HEARTBEAT, body
from tests.support.running import running, settings_for
from tests.support.waiting import until


async def test_what_rabbitmq_gave_up_becomes_a_letter_and_an_event(
    rabbit_url: str, nats_address: str, database: str
) -> None:
    settings = settings_for(
        nats_address, database, kv="false", brokers="rabbitmq", rabbitmq_url=rabbit_url
    )
    await provision(settings, dry_run=False)
    async with await aio_pika.connect(rabbit_url) as client:
        events = await (await client.channel()).get_exchange("events")
        await events.publish(aio_pika.Message(body(), expiration=0.001), HEARTBEAT)
    connection = await asyncpg.connect(database)
    await until(lambda: dead(rabbit_url))
    async with running(settings):
        await until(lambda: connection.fetchval("SELECT count(*) FROM bus.dead_letter"))
        (row,) = await connection.fetch("SELECT * FROM bus.dead_letter")
        assert (row["reason"], row["subject"]) == ("broker_gave_up", HEARTBEAT)
        assert "AGENT_STATE gave it up: expired" in row["error"]
        meant = Filter(reason="broker_gave_up")
        operator = msgspec.structs.replace(settings, postgres_dsn=database)
        code = await requeue(operator, meant, Correction(), wait=30, dry_run=False, as_json=False)
        assert code == 0
    assert await connection.fetchval("SELECT count(*) FROM agents.heartbeat") == 1
    assert not await dead(rabbit_url)
    await connection.close()


async def dead(url: str) -> int:
    async with await aio_pika.connect(url) as client:
        queue = await (await client.channel()).get_queue("penstock.dead")
        return queue.declaration_result.message_count or 0
