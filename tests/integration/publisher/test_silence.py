"""A Publisher prints nothing: an agent may speak a protocol over its standard output."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import aiormq
import pytest
from nats import connect

from penstock import RabbitOptions
from penstock.worker.embedded import EmbeddedNats
from penstock.worker.embedded.rabbitmq import EmbeddedRabbit
from penstock.worker.embedded.server import EmbeddedServer
from penstock.worker.rabbitmq import topology
from penstock.worker.rabbitmq.connection import connect as connect_rabbit
from penstock.worker.rabbitmq.topology import QueuePlan
from tests.support.waiting import until

QUEUE = "SILENT"
AGENT = """
import asyncio, logging, sys

from penstock import Publisher, PublishRefused
from penstock.schemas import AgentHeartbeat, TaskDeleted


async def main():
    told = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    async with Publisher(sys.argv[1], source="/a", exchange="silent") as bus:
        try:
            await bus.publish(TaskDeleted(task_id="nobody-takes-this"))
        except PublishRefused:
            pass
        while not told.done():
            await bus.publish(AgentHeartbeat(agent_id="a-7"))
            await asyncio.sleep(0.05)


if "loud" in sys.argv:
    logging.basicConfig(level=logging.INFO)
asyncio.run(main())
"""


class Broker(NamedTuple):
    server: EmbeddedServer
    url: str
    stored: Callable[[], Awaitable[int]]


@pytest.fixture
async def nats() -> AsyncIterator[Broker]:
    async with EmbeddedNats() as server:
        client = await connect(server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
        stream = client.jetstream()
        await stream.add_stream(name=QUEUE, subjects=["agents.>"])

        async def count() -> int:
            return (await stream.stream_info(QUEUE)).state.messages

        yield Broker(server, server.url, count)
        await client.close()


@pytest.fixture
async def rabbitmq(shaky_rabbit: EmbeddedRabbit) -> Broker:
    connection = await connect_rabbit(RabbitOptions(url=shaky_rabbit.url), name="test")
    plan = QueuePlan(name=QUEUE, subjects=("agents.>",), exchange="silent")
    await topology.provision(connection, [plan])
    await connection.close()

    async def count() -> int:
        async with aiormq.connect(shaky_rabbit.url) as connection:
            channel = await connection.channel()
            declared = await channel.queue_declare(QUEUE, passive=True)
            return declared.message_count or 0

    return Broker(shaky_rabbit, shaky_rabbit.url, count)


async def more_than(broker: Broker, number: int) -> None:
    async def enough() -> bool:
        return await broker.stored() > number

    await until(enough, 30)


async def run_through_a_crash(broker: Broker, *arguments: str) -> tuple[str, str]:
    """What an agent prints whose broker is killed and comes back."""
    begun = await broker.stored()
    agent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", AGENT, broker.url, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await more_than(broker, begun)
        broker.server.kill()
        await broker.server.restart()
        await more_than(broker, await broker.stored())
        printed, errors = await asyncio.wait_for(agent.communicate(b""), 30)
    finally:
        if agent.returncode is None:
            agent.kill()
    assert agent.returncode == 0, errors.decode()
    return printed.decode(), errors.decode()


@pytest.fixture(params=["nats", pytest.param("rabbitmq", marks=pytest.mark.faults)])
def broker(request: pytest.FixtureRequest) -> Broker:
    found: Broker = request.getfixturevalue(request.param)
    return found


async def test_nothing_is_printed(broker: Broker) -> None:
    assert await run_through_a_crash(broker) == ("", "")


async def test_who_configures_logging_is_told_with_values(broker: Broker) -> None:
    """On standard error, as the agent has chosen."""
    printed, errors = await run_through_a_crash(broker, "loud")
    assert printed == ""
    assert "penstock.worker." in errors
    assert "nats_disconnected connection='publisher /a'" in errors or (
        "publish_interrupted exchange='silent'" in errors
    )
