"""RabbitMQ killed, and connections cut in the middle of a frame, under load: nothing is lost."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

import pytest

from schemas.agents import AgentHeartbeat
from tests.relay import Relay
from tests.running import until
from worker import rabbitmq_topology as topology
from worker.embedded.rabbitmq import EmbeddedRabbit
from worker.errors import SourceUnavailable
from worker.publisher import Publisher
from worker.rabbitmq_connection import RabbitOptions, connect
from worker.rabbitmq_topology import Kind, QueuePlan
from worker.sources.rabbitmq import RabbitMqSource

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("rabbitmq_package")]
ROUNDS = 10
AFTER_A_CRASH_SECONDS = 20.0


class Load:
    """Publishes without end and reads without end, and remembers both."""

    def __init__(self, bus: Publisher, source: RabbitMqSource) -> None:
        self._bus = bus
        self._source = source
        self.confirmed: set[str] = set()
        self.read: dict[str, float] = {}
        """When each agent's event was first read."""

    async def publish(self) -> None:
        number = 0
        while True:
            number += 1
            agent = f"a-{number}"
            sent = await self._bus.publish_soon(AgentHeartbeat(agent_id=agent))
            sent.add_done_callback(partial(self._settled, agent))
            await asyncio.sleep(0.0005)

    def _settled(self, agent: str, done: asyncio.Future[object]) -> None:
        if not done.cancelled() and done.exception() is None:
            self.confirmed.add(agent)

    async def collect(self) -> None:
        while True:
            try:
                batch = await self._source.fetch()
            except SourceUnavailable:
                await asyncio.sleep(0.05)
                continue
            now = time.monotonic()
            for message in batch:
                self.read.setdefault(message.subject.split(".")[1], now)
            await self._source.ack(batch)

    async def fresh(self, since: float) -> bool:
        return any(first > since for first in list(self.read.values())[-50:])

    async def complete(self) -> bool:
        return self.confirmed <= self.read.keys()


@asynccontextmanager
async def load(server: str, through: str, kind: Kind) -> AsyncIterator[Load]:
    """Published straight to the server, read ``through`` another address of it."""
    plan = QueuePlan(name=f"FAULTS_{kind}", subjects=("agents.>",), kind=kind, exchange="faults")
    async with AsyncExitStack() as stack:
        control = await connect(RabbitOptions(url=server), name="test")
        stack.push_async_callback(control.close)
        await topology.provision(control, [plan])
        bus = await stack.enter_async_context(
            Publisher(server, source="/test", exchange="faults", max_pending=2_000)
        )
        source = await stack.enter_async_context(
            RabbitMqSource(
                control,
                RabbitOptions(url=through, heartbeat=2),
                plan.name,
                batch_size=200,
                batch_bytes=1 << 20,
                linger=0.005,
            )
        )
        running = Load(bus, source)
        collecting = asyncio.create_task(running.collect())
        publishing = asyncio.create_task(running.publish())
        try:
            yield running
            publishing.cancel()
            await bus.flush()
            await until(running.complete, 60)
        finally:
            for task in (publishing, collecting):
                task.cancel()
            await asyncio.gather(publishing, collecting, return_exceptions=True)


async def again_and_again(running: Load, harm: Callable[[int], Awaitable[None]]) -> None:
    """Do harm, wait for something new to arrive, and a little more of it, ten times."""
    for number in range(ROUNDS):
        await until(partial(arrived, running, 300 * (number + 1)), 60)
        await harm(number)
        healed = time.monotonic()
        await until(partial(running.fresh, healed), AFTER_A_CRASH_SECONDS)


async def arrived(running: Load, count: int) -> bool:
    return len(running.read) >= count


@pytest.mark.parametrize("kind", ["quorum", "classic"])
async def test_a_node_killed_ten_times_loses_nothing(kind: Kind) -> None:
    async with EmbeddedRabbit() as server:

        async def crash(_: int) -> None:
            server.kill()
            await server.restart()

        async with load(server.url, server.url, kind) as running:
            await again_and_again(running, crash)


async def test_a_connection_cut_in_a_frame_ten_times_loses_nothing(rabbit_url: str) -> None:
    port = urlsplit(rabbit_url).port
    assert port is not None
    async with Relay(port) as relay:

        async def cut(number: int) -> None:
            relay.cut_after(1_000 + 37 * number)
            await until(lambda: was_cut(number + 1))

        async def was_cut(times: int) -> bool:
            return relay.cuts >= times

        through = rabbit_url.replace(f":{port}", f":{relay.port}")
        async with load(rabbit_url, through, "quorum") as running:
            await again_and_again(running, cut)
