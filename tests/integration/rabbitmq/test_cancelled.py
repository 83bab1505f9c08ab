"""A request to RabbitMQ that is cancelled ends as cancelled, whatever aiormq makes of it."""

import asyncio
import random
from functools import partial

import aio_pika
import pytest

from penstock.worker.rabbitmq import topology
from penstock.worker.rabbitmq.connection import connect
from penstock.worker.rabbitmq.options import RabbitOptions, ReadingOptions
from penstock.worker.rabbitmq.source import RabbitMqSource
from penstock.worker.rabbitmq.topology import QueuePlan
from tests.support.waiting import until

PLAN = QueuePlan(name="AGENT_STATE", subjects=("agents.>",))


@pytest.mark.faults
async def test_a_worker_that_stops_is_not_kept_by_its_requests(rabbit_url: str) -> None:
    options = RabbitOptions(url=rabbit_url)
    control = await connect(options, name="test")
    await topology.provision(control, [PLAN])
    reading = ReadingOptions(batch_size=100, batch_bytes=1 << 20, linger=0.01)
    source = RabbitMqSource(control, options, PLAN.name, reading)
    rng = random.Random(1)
    interrupted = 0
    async with source:
        while interrupted < 60:
            await until(partial(connected, control))
            asking = asyncio.create_task(source.backlog())
            await asyncio.wait({asking}, timeout=rng.random() * 0.02)
            if asking.cancel():
                await asyncio.wait({asking})
                assert asking.cancelled()
                interrupted += 1
    await control.close()


async def connected(control: aio_pika.RobustConnection) -> bool:
    """A cancelled request may end the connection, which is then made again."""
    return control.connected.is_set()
